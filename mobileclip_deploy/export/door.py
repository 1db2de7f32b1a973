"""`export`: from a model to verified bundles."""

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import MobileClipDeployError, UsageError, severity
from mobileclip_deploy.evaluation.checkpoints import checkpoint_looks
from mobileclip_deploy.export.plan import BundlePlan, ExportPlan, plan_export
from mobileclip_deploy.export.request import ExportChoices, choose, parse_request
from mobileclip_deploy.export.smallest import find_smallest
from mobileclip_deploy.export.steps import NotWritten, Written, unverified_bundle, write_bundle
from mobileclip_deploy.network.checkpoints.compacting import compact
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.spaces.compacting import fit_compact
from mobileclip_deploy.spaces.relevance_learning import learn_relevance
from mobileclip_deploy.spaces.tags.door import learn_head
from mobileclip_deploy.verify.checks.cut import check_cut
from mobileclip_deploy.verify.subject import Evidence


def export(
    model: MobileCLIP,
    target: str | None = None,
    precision: str | None = None,
    output: StrPath = ".",
    **choices: Unpack[ExportChoices],
) -> Bundle:
    """Writes a verified bundle to `<output>/<variant>-<target>-<precision>`, whole or not at all.

    One target at one precision is one bundle; `export_all` writes several.

    Args:
        model: from `load_model`; a training form is folded in place first.
        target: such as "onnx", "coreml", "executorch" or "executorch-vulkan". The layout's if None.
        precision: one for both towers, "image=fp16,text=fp32", or "smallest"; the target's own default if None.
            "w4p-table-w6p": the text tower's table of words at w6p, everything else at w4p.
        tower: "image", "text" or "both".
        options: of the target, by name, such as {"deployment_target": "iOS17"}.
        calibration: a folder of images (and prompts) for precisions that measure activations; None for the packaged
            samples. Learned rounding needs one: at least 128 images and 500 captions, none of those that accuracy is
            compared on.
        rounding: "nearest", or learned on `calibration`: "gptq", or "tuned", which takes minutes (docs/rounding.md).
        background: a folder of at least 256 pictures of all kinds, by which a search says "nothing found"
            (docs/search.md); the bundle contains their embeddings.
        queries: at least 256 captions with their pictures, a dataset (docs/evaluation.md), to learn that threshold
            from. Without them it is only fitted to false alarms.
        gates: bounds to replace; a bundle records them, and `verify` uses the same.
        verify: run every check before the bundle is published.
        force: replace an existing bundle.
        allow_failing: write a bundle even if it fails its gate. It is marked: the failed checks in its `parity.json`,
            `allow_failing` in its `options`, FAILED in its model card.
        labels: two or more, or a text for them as on the command line ("cat,dog", or a file with one per line). A
            classifier of them is written instead: the image tower with probabilities as output.
        examples: a folder with a folder of pictures per label, or a dataset with classes (docs/tags.md): the labels are
            learned from these pictures and from their texts, or without `labels` from the pictures alone. The last
            label of the classifier is then "none of these". `background` has pictures that no label fits.
        false_tags: with `examples`: target share of pictures without a label that get one (0.05).
        template: the prompt for a label, with `{}` for the label; the variant's own if None.
        layout: the name of an app whose names of files and tensors are used (see `layouts`), or a JSON file that
            describes your own app's; the bundle is then `<variant>-<layout>-<precision>`.
        input: of the image tower: "pixels" float32 [N, 3, S, S] as `preprocess` makes them, or "bytes" of one picture
            of any size, uint8 [H, W, 3 or 4], which the artifact resizes, crops and scales itself; ONNX supports that.
        contexts: lengths in tokens, such as (16, 32), that the text tower takes in addition to its full one; runners
            use the shortest that fits a prompt. Only for causal text towers (MobileCLIP-B and -B LT, MobileCLIP2-B,
            OpenAI's and LAION's ViT-B/16): in the others padding is part of the model.
        normalise: embeddings leave the artifacts at length 1.
        max_drop: for "smallest": points of top-1 and recall@1 that may be lost on the dataset (0.5).
        max_size: for "smallest": size limit of all artifacts in MB; nothing larger is tried.
        budget: for "smallest": minutes; a search that runs out of them resumes when it is called again.
        embedding_size: number of dimensions of an embedding, from 1 to all; fewer make another embedding space, and
            bundles called `<variant>-e<size>-<target>-<precision>` (docs/search.md). It needs `fit`.
        fit: a folder of pictures like the app's, at least four for each dimension of an embedding, none of those that
            accuracy is compared on.
        captions: a file of texts like the app's queries: one per line, a JSON list, or a table of pairs; those of the
            folder's prompts.txt if None. With 500 and more, search results are kept better.
        for_product: refuse weights whose licence is not a clear yes for products, naming variants that are
            (docs/licences.md).
        licence_text: the licence text that came with your copy of the weights; the bundle has it in LICENSES/.
        dataset: the dataset on which accuracy is compared; the built-in checkpoint has its own, others have none.

    Raises:
        UsageError: a name is unknown, an option cannot be used, or the destination cannot.
        CheckpointError: the model has no provenance, since `load_model` did not make it.
        GateFailed: the artifact is too far from the checkpoint, or no candidate of a search passes; it was not written,
            unless `allow_failing`, and existing bundles stay.
        DependencyMissing: the target's packages are not installed.
        ExportError: the converter failed.
    """
    plan = plan_export(choose(parse_request(_listed(target), _listed(precision), output, choices)), Source.of(model))
    if len(plan.bundles) > 1:
        names = ", ".join(bundle.path.name for bundle in plan.bundles)
        raise UsageError(f"{len(plan.bundles)} bundles ({names}); export several with `export_all`")
    return export_plan(plan, choices.get("progress", silent))[0].bundle


def export_all(
    model: MobileCLIP,
    targets: str | Sequence[str] = "all",
    precisions: str | Sequence[str] | None = None,
    output: StrPath = ".",
    **choices: Unpack[ExportChoices],
) -> tuple[Bundle, ...]:
    """Writes a verified bundle for each pair of a target and a precision; the checkpoint's embeddings are computed
    once.

    Args:
        model: from `load_model`; a training form is folded in place first.
        targets: one, or a list of them; with "all", those that lack a precision or are not installed are left out.
        precisions: one, or a list of them; each target's own default if None.
        output: the folder of the bundles.
        choices: as for `export`.

    Raises:
        MobileClipDeployError: as `export`. A bundle that cannot be written does not stop the others. The worst error is
            raised after the last bundle; its `results` has every bundle: its path, whether it was written, its report.
    """
    request = parse_request(_listed(targets), _listed(precisions), output, choices)
    plan = plan_export(choose(request), Source.of(model))
    return tuple(result.bundle for result in export_plan(plan, choices.get("progress", silent)))


def _listed(names: str | Sequence[str] | None) -> Sequence[str]:
    return () if names is None else (names,) if isinstance(names, str) else names


def export_plan(plan: ExportPlan, progress: Progress = silent) -> list[Written]:
    """Writes every bundle of a plan. The checkpoint's embeddings are computed once, before it is folded.

    Raises:
        UsageError: another process writes a bundle of the plan, or has written it meanwhile.
        MobileClipDeployError: the worst error; see `export_all`.
    """
    with contextlib.ExitStack() as stack:
        for bundle in plan.bundles:
            stack.enter_context(sole_writer(bundle.path, "export", force=bundle.request.writing.force))
        return _export(plan, progress)


def _export(plan: ExportPlan, progress: Progress) -> list[Written]:
    full = plan.source
    if plan.fitted_to is not None:
        plan = replace(plan, source=compact(full, *fit_compact(full, plan.fitted_to, progress)))
    progress("reference embeddings")
    evidence = sampled_evidence(plan.source.model)
    relevance = None if plan.background is None else learn_relevance(plan.source.model, plan.background, progress)
    task = None
    if plan.dataset is not None:
        task = checkpoint_looks(plan.source.model, plan.dataset, progress)
    cut, compacted = None, plan.source.provenance.compacted
    if task is not None and compacted is not None and any(bundle.search is None for bundle in plan.bundles):
        whole = checkpoint_looks(full.model, task.dataset, progress)
        cut = check_cut(compacted, whole.plain, task.plain)
    evidence = replace(evidence, task=task, cut=cut)
    bundles = [replace(bundle, relevance=relevance) for bundle in plan.bundles]
    if plan.examples is not None:
        learned = learn_head(plan.source.model, plan.source.provenance.embedding_space, plan.examples, progress)
        head = Head(LabelSet(learned.names, learned.template), learned=learned)
        bundles = [replace(bundle, request=replace(bundle.request, head=head)) for bundle in bundles]
    results = _each(bundles, plan, evidence, progress)
    if failures := [result.failure for result in results if isinstance(result, NotWritten)]:
        raise _worst(failures, results)
    return [result for result in results if isinstance(result, Written)]


def sampled_evidence(model: MobileCLIP) -> Evidence:
    """Returns the checkpoint's answers to the packaged samples."""
    return Evidence(compute_reference(model, sample_inputs(model)))


def _each(
    bundles: Sequence[BundlePlan], plan: ExportPlan, evidence: Evidence, progress: Progress
) -> list[Written | NotWritten]:
    """Makes every bundle, even if others fail.

    The first bundle of a slow runtime is computed in the background while the others are made, and checked after them.
    Only one such bundle runs at a time, because a runtime keeps its weights in memory.
    """
    results: dict[Path, Written | NotWritten] = {}

    def make_others() -> None:
        for bundle in bundles:
            if bundle is not slow and bundle.path not in results:
                with _collecting(bundle, results):
                    if bundle.search is None:
                        results[bundle.path] = write_bundle(bundle, plan.source, evidence, progress)
                    else:
                        results[bundle.path] = find_smallest(bundle, plan.source, evidence, progress)

    slow = _first_slow(bundles)
    if slow is not None:
        with _collecting(slow, results):
            with unverified_bundle(slow, plan.source, evidence, progress) as work:
                work.subject.prefetch()
                make_others()
            results[slow.path] = work.written
    make_others()
    return [results[bundle.path] for bundle in bundles]


def _first_slow(bundles: Sequence[BundlePlan]) -> BundlePlan | None:
    slow = (
        bundle
        for bundle in bundles
        if bundle.search is None and bundle.target.capabilities.places.slow_runtime and bundle.request.writing.verify
    )
    return next(slow, None) if len(bundles) > 1 else None


@contextlib.contextmanager
def _collecting(bundle: BundlePlan, results: dict[Path, Written | NotWritten]) -> Iterator[None]:
    try:
        yield
    except MobileClipDeployError as error:
        for raised in (error, error.__cause__):  # their frames hold weights, and the next bundle needs that memory
            if raised is not None:
                traceback.clear_frames(raised.__traceback__)
        results[bundle.path] = NotWritten(bundle.path, error)


def _worst(failures: Sequence[MobileClipDeployError], results: Sequence[Written | NotWritten]) -> MobileClipDeployError:
    """Returns the worst error, with the results of all bundles; if several failed, its text names each."""
    error = min(failures, key=severity)
    named = [f"{result.path.name} ({result.failure.line})" for result in results if isinstance(result, NotWritten)]
    if len(results) > 1:
        error.results = tuple(_measured(result) for result in results)
    if len(named) > 1:
        error.args = (f"{len(named)} of {len(results)} bundles were not written: {', '.join(named)}",)
    return error


def _measured(result: Written | NotWritten) -> Written | NotWritten:
    """Returns the result with the report of a failed gate or the log of a search, if there is one."""
    results = result.failure.results if isinstance(result, NotWritten) else ()
    return results[0] if results else result
