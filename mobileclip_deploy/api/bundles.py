"""Bundles: written, checked against their checkpoint, explained, run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.api.models import accuracy_dataset, find_checkpoint, load_source
from mobileclip_deploy.api.paths import StrPath, opened
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation import tower_runner
from mobileclip_deploy.export.exporting import chosen_towers, export_many
from mobileclip_deploy.export.smallest import Limits, Smallest, find_smallest
from mobileclip_deploy.folding import fold, is_folded
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.precision import parse_precisions
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Gates, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import ExportOptions, Runner, get_target
from mobileclip_deploy.towers.classifier import LabelSet
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.towers.samples import read_prompts
from mobileclip_deploy.verify.explanation import Explanation, explain_bundle
from mobileclip_deploy.verify.verification import (
    TaskReference,
    check_golden,
    check_settings,
    verify_bundle,
)

__all__ = ["explain", "export", "export_smallest", "image_files", "load_runner", "verify"]


def export(
    model: MobileCLIP,
    target: str,
    precision: str = "fp16",
    output: StrPath = ".",
    *,
    tower: str = "both",
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    verify: bool = True,
    force: bool = False,
    allow_failing: bool = False,
    labels: Sequence[str] = (),
    template: str | None = None,
) -> Bundle:
    """Write a verified bundle to `<output>/<variant>-<target>-<precision>`; whole or not at all.

    Args:
        model: from `load_model`; a training form is folded in place first.
        target: "onnx" or "coreml".
        precision: one for both towers, or "image=fp16,text=fp32".
        tower: "image", "text" or "both".
        labels: two or more: a classifier of them is written instead, the image tower with probabilities out.
        template: the prompt that stands for a label, with `{}` where it goes; the variant's own when None.

    Raises:
        UsageError: a name is unknown, or the destination cannot be used.
        GateFailed: the artifact is too far from the checkpoint; nothing was written, unless `allow_failing`.
        DependencyMissing: the target's packages are not installed.
        ExportError: the converter failed.
    """
    (exported,) = export_many(
        model,
        [get_target(target)],
        [parse_precisions(precision)],
        Path(output),
        tower="image" if labels else tower,
        options=options,
        gates=gates,
        verify=verify,
        force=force,
        labels=LabelSet(tuple(labels), template) if labels else None,
        allow_failing=allow_failing,
        dataset=accuracy_dataset(model),
    )
    return exported.bundle


def export_smallest(
    model: MobileCLIP,
    target: str,
    output: StrPath = ".",
    *,
    tower: str = "both",
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    max_drop: float = 0.5,
    budget: float | None = None,
    dataset: StrPath | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Smallest:
    """Write the smallest bundle that passes to `<output>/<variant>-<target>-smallest`, searched from the smallest up.

    Args:
        model: from `load_model`; a training form is folded in place first.
        target: one, as `export` takes it.
        max_drop: points of top-1 and recall@1 that may be lost on the dataset.
        budget: minutes; a search that ends with them goes on where it was when it is called again.
        dataset: what accuracy is compared on; the built-in checkpoint has its own, others have none.

    Raises:
        GateFailed: nothing passes, or nothing did within the budget; nothing was written.
        UsageError, DependencyMissing, ExportError: as `export`.
    """
    if not max_drop >= 0 or (budget is not None and not budget > 0):
        raise UsageError(f"max_drop {max_drop:g} and budget {budget} must not be below 0")
    return find_smallest(
        model,
        get_target(target),
        Path(output),
        towers=chosen_towers(model, tower),
        options=options,
        gates=gates,
        limits=Limits(max_drop, budget),
        force=force,
        dataset=accuracy_dataset(model, dataset),
        progress=progress,
    )


def verify(
    bundle: Bundle | StrPath,
    *,
    checkpoint: StrPath | None = None,
    images: StrPath | None = None,
    prompts: StrPath | None = None,
    dataset: StrPath | None = None,
    calibration: StrPath | None = None,
    gates: Gates | None = None,
    progress: Progress = silent,
) -> ParityReport:
    """Check a bundle against the checkpoint it was exported from, by both steps, on real images and prompts.

    Args:
        bundle: as returned by `export`, or its folder.
        checkpoint: the source; when None the built-in one, or a file of the recorded name and hash beside the bundle
            or in the working directory. Without it the semantic step is reported as not run.
        images: a folder of images instead of the stored ones; needs the checkpoint.
        prompts: a file of prompts instead of the stored ones; needs the checkpoint.
        calibration: the folder of images that the bundle was calibrated on, if on one of yours: it is converted again.
        dataset: a dataset folder on which to compare accuracy; for the built-in checkpoint its own held-out set.

    Raises:
        InvalidInput: the bundle is damaged, or another checkpoint was given.
        RuntimeFailed: the runtime refused an artifact.
    """
    bundle = opened(bundle)
    gates = gates or Gates()
    source = Path(checkpoint) if checkpoint is not None else find_checkpoint(bundle)
    if source is None:
        if images or prompts or dataset:
            raise InvalidInput("images, prompts and datasets of your own need the source checkpoint (--checkpoint)")
        return verify_bundle(bundle, Reference.read(bundle.golden), None, gates, progress=progress)
    model = load_source(bundle.manifest.checkpoint, source)
    progress(f"{bundle.path.name}: reference embeddings")
    stored = Reference.read(bundle.golden)
    vocabulary = bundle.manifest.tokenizer.vocab_size
    if stored.inputs.ids.min(initial=0) < 0 or stored.inputs.ids.max(initial=0) >= vocabulary:
        raise InvalidInput(f"{bundle.golden} is damaged: it holds ids outside of the {vocabulary} of the vocabulary")
    reference = Reference.compute(model, stored.inputs)
    golden = [check_settings(bundle, model), *check_golden(bundle, reference, gates)]
    if images or prompts:
        paths = image_files(Path(images)) if images else []
        inputs = sample_inputs(model, paths, read_prompts(prompts) if prompts else ())
        reference = Reference.compute(model, inputs)
    data = accuracy_dataset(model, dataset) if set(bundle.manifest.towers) == set(TOWERS) else None
    task = TaskReference.compute(model, data, lambda text: progress(f"checkpoint: {text}")) if data else None
    if not is_folded(model):
        fold(model)
    own = Path(calibration) if calibration is not None else None
    report = verify_bundle(bundle, reference, model, gates, task=task, calibration=own, progress=progress)
    return report.model_copy(update={"checks": (*golden, *report.checks)})


def explain(
    bundle: Bundle | StrPath,
    *,
    checkpoint: StrPath | None = None,
    calibration: StrPath | None = None,
    progress: Progress = silent,
) -> tuple[Explanation, ...]:
    """Say for each tower of a Core ML bundle at which operation it first parts from its checkpoint, if it does.

    Args:
        bundle: as returned by `export`, or its folder.
        checkpoint, calibration: as for `verify`.

    Raises:
        UsageError: the bundle is of another target, or its checkpoint is not at hand.
        InvalidInput: the bundle is damaged, or another checkpoint was given.
    """
    bundle = opened(bundle)
    source = Path(checkpoint) if checkpoint is not None else find_checkpoint(bundle)
    if source is None:
        raise UsageError(
            f"explaining needs the checkpoint {bundle.manifest.checkpoint.file}; give it with --checkpoint"
        )
    model = load_source(bundle.manifest.checkpoint, source)
    if not is_folded(model):
        fold(model)
    images = Path(calibration) if calibration is not None else None
    return explain_bundle(bundle, model, Reference.read(bundle.golden).inputs, progress, calibration=images)


def load_runner(bundle: Bundle | StrPath, tower: TowerName) -> Runner:
    """Load one tower of a bundle to run it here: a callable on numpy arrays (see `targets.Runner`).

    Raises:
        InvalidInput: the bundle is damaged.
        UsageError: it does not hold the tower.
        RuntimeFailed: nothing here can run it.
    """
    bundle = opened(bundle)
    return tower_runner(bundle, tower)


def image_files(folder: Path) -> list[Path]:
    """All files of a folder, by name; hidden ones are left out.

    Raises:
        InvalidInput: not a folder, or empty.
    """
    if not folder.is_dir():
        raise InvalidInput(f"no folder of images at {folder}")
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise InvalidInput(f"{folder} holds no images")
    return files
