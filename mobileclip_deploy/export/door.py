"""`export`: from a model to verified bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.plan import BundlePlan, ExportPlan, ExportRequest, choose, plan_export, search_limits
from mobileclip_deploy.export.steps import ExportGateFailed, Written, write_bundle
from mobileclip_deploy.files import StrPath, optional_path
from mobileclip_deploy.layouts import read_layout
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.towers.head import read_head
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.verify.subject import Evidence, checkpoint_looks

__all__ = ["export", "export_plan"]


class ExportChoices(TypedDict, total=False):
    """The keywords of `export`."""

    tower: str
    options: Mapping[str, Any] | None
    calibration: StrPath | None
    rounding: str
    gates: Gates | None
    verify: bool
    force: bool
    allow_failing: bool
    labels: str | Sequence[str] | None
    template: str | None
    layout: StrPath | None
    normalise: bool
    input: str
    contexts: Sequence[int]
    max_drop: float | None
    max_size: float | None
    budget: float | None
    dataset: StrPath | None
    progress: Progress


Several = list[str] | tuple[str, ...]
"""Names one by one: unlike a str, they ask for as many bundles."""


@overload  # "all" is a str as well, and the first that fits holds
def export(  # type: ignore[overload-overlap]
    model: MobileCLIP,
    target: Literal["all"] | Several,
    precision: str | Several | None = None,
    output: StrPath = ".",
    **choices: Unpack[ExportChoices],
) -> tuple[Bundle, ...]: ...
@overload
def export(
    model: MobileCLIP, target: str, precision: Several, output: StrPath = ".", **choices: Unpack[ExportChoices]
) -> tuple[Bundle, ...]: ...
@overload
def export(
    model: MobileCLIP,
    target: str | None = None,
    precision: str | None = None,
    output: StrPath = ".",
    **choices: Unpack[ExportChoices],
) -> Bundle: ...
def export(
    model: MobileCLIP,
    target: str | Several | None = None,
    precision: str | Several | None = None,
    output: StrPath = ".",
    *,
    tower: str = "both",
    options: Mapping[str, Any] | None = None,
    calibration: StrPath | None = None,
    rounding: str = "nearest",
    gates: Gates | None = None,
    verify: bool = True,
    force: bool = False,
    allow_failing: bool = False,
    labels: str | Sequence[str] | None = None,
    template: str | None = None,
    layout: StrPath | None = None,
    normalise: bool = False,
    input: str = "pixels",
    contexts: Sequence[int] = (),
    max_drop: float | None = None,
    budget: float | None = None,
    max_size: float | None = None,
    dataset: StrPath | None = None,
    progress: Progress = silent,
) -> Bundle | tuple[Bundle, ...]:
    """Write a verified bundle to `<output>/<variant>-<target>-<precision>`; whole or not at all.

    One target at one precision is one bundle, which is returned. "all" targets, and lists of targets or precisions,
    are one for each pair, and a tuple of them is returned; what was asked of the checkpoint is computed once.

    Args:
        model: from `load_model`; a training form is folded in place first.
        target: such as "onnx", "coreml", "executorch" or "executorch-vulkan"; "all"; or a list of them. Of "all" those
            that lack a precision are left out. The layout's when None.
        precision: one for both towers, "image=fp16,text=fp32", or "smallest" (alone); a list of such; the target's own
            default when None. "w4p-table-w6p": the text tower's table of words at w6p, all else at w4p.
        tower: "image", "text" or "both".
        options: of the target, by name, such as {"deployment_target": "iOS17"}.
        calibration: a folder of images (and prompts) for precisions that measure activations; None for the packaged
            samples. Learned rounding needs one: 128 images and 500 captions at least, none of those that accuracy is
            compared on.
        rounding: "nearest", or learned on `calibration`: "gptq", or "tuned", which takes minutes (docs/rounding.md).
        gates: bounds to replace; a bundle records them, and `verify` holds it to the same.
        verify: run every check before the bundle takes its place.
        force: replace a bundle that is there.
        allow_failing: write a bundle that fails its gate all the same, marked as such: the failed checks in its
            `parity.json`, `allow_failing` in its `options`, FAILED in its model card.
        labels: two or more, or a text for them as on the command line ("cat,dog", or a file with one a line): a
            classifier of them is written instead, the image tower with probabilities out.
        template: the prompt that stands for a label, with `{}` where it goes; the variant's own when None.
        layout: the name of an app whose files and tensors are wanted (see `layouts`), or a JSON file that describes
            your own app's; the bundle is `<variant>-<layout>-<precision>` then.
        input: of the image tower: "pixels" float32 [N, 3, S, S] as `preprocess` makes them, or "bytes" of one picture
            of any size, uint8 [H, W, 3 or 4], which the artifact resizes, crops and scales itself; ONNX has that.
        contexts: lengths in tokens, such as (16, 32), that the text tower takes beside its full one; runners take the
            shortest that holds a prompt. Of causal text towers (MobileCLIP-B and -B LT, MobileCLIP2-B, OpenAI's and
            LAION's ViT-B/16) alone: in the others padding is part of the model.
        normalise: embeddings leave the artifacts at length 1.
        max_drop: of "smallest": points of top-1 and recall@1 that may be lost on the dataset (0.5).
        max_size: of "smallest": MB that the artifacts may have together; nothing larger is tried.
        budget: of "smallest": minutes; a search that ends with them goes on where it was when it is called again.
        dataset: what accuracy is compared on; the built-in checkpoint has its own, others have none.

    Raises:
        UsageError: a name is unknown, an option cannot be used, or the destination cannot.
        CheckpointError: the model has no provenance, since `load_model` did not make it.
        GateFailed: the artifact is too far from the checkpoint, or nothing that a search tried passes; it was not
            written, unless `allow_failing`, and bundles that were written before stay.
        DependencyMissing: the target's packages are not installed.
        ExportError: the converter failed.
    """
    request = ExportRequest(
        targets=() if target is None else (target,) if isinstance(target, str) else tuple(target),
        precisions=() if precision is None else (precision,) if isinstance(precision, str) else tuple(precision),
        output=Path(output),
        tower=tower,
        head=read_head(labels, template, normalise),
        layout=None if layout is None else read_layout(layout),
        input=input,
        contexts=tuple(contexts),
        options=options or {},
        calibration=optional_path(calibration),
        rounding=rounding,
        gates=gates or Gates(),
        limits=search_limits(max_drop, budget, max_size),
        verify=verify,
        force=force,
        allow_failing=allow_failing,
        dataset=optional_path(dataset),
    )
    plan = plan_export(choose(request), Source.of(model))
    single = target is None or (isinstance(target, str) and target.casefold() != "all")
    single = single and (precision is None or isinstance(precision, str))
    if single and len(plan.bundles) > 1:
        names = ", ".join(bundle.path.name for bundle in plan.bundles)
        raise UsageError(f"{len(plan.bundles)} bundles ({names}); ask for several with a list, target=[...]")
    written = tuple(one.bundle for one in export_plan(plan, progress))
    return written[0] if single else written


def export_plan(plan: ExportPlan, progress: Progress = silent) -> list[Written]:
    """Write every bundle of a plan; the checkpoint is asked for its answers once, before it is folded.

    Raises:
        GateFailed, ExportError: see `export`; bundles that were written before stay. An `ExportGateFailed` has what was
            measured.
    """
    progress("reference embeddings")
    reference = Reference.compute(plan.source.model, sample_inputs(plan.source.model))
    task = None
    if plan.dataset is not None and any(bundle.search is None for bundle in plan.bundles):
        task = checkpoint_looks(plan.source.model, plan.dataset, progress)
    written: list[Written] = []
    for bundle in plan.bundles:
        try:
            written.append(_written(bundle, plan, Evidence(reference, task), progress))
        except ExportGateFailed as error:
            error.results = (*written, *error.results)
            raise
    return written


def _written(bundle: BundlePlan, plan: ExportPlan, evidence: Evidence, progress: Progress) -> Written:
    if bundle.search is None:
        return write_bundle(bundle, plan.source, evidence, progress)
    from mobileclip_deploy.export.smallest import find_smallest

    return find_smallest(bundle, plan.source, evidence.reference, plan.dataset, progress)
