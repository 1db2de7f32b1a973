"""Public functions `verify`, `explain` and `compare`: a bundle against its checkpoint, and bundles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.door import chosen_dataset
from mobileclip_deploy.evaluation.evaluate import Measuring
from mobileclip_deploy.evaluation.templates import parse_templates
from mobileclip_deploy.network.model.loaded import torch_installed
from mobileclip_deploy.parity import Gates, ParityReport
from mobileclip_deploy.verify.reports.comparison import Comparison, compare_bundles
from mobileclip_deploy.verify.reports.explanation import Explanation, explain_subject
from mobileclip_deploy.verify.reports.several import Baseline, verify_bundle
from mobileclip_deploy.verify.request import VerifyRequest

if TYPE_CHECKING:
    from mobileclip_deploy.network.checkpoints.source import Source

__all__ = ["Comparison", "Explanation", "compare", "explain", "verify"]

WITHOUT_CHECKPOINT = "Torch is not installed, so differences are against the first bundle, not the checkpoint."
PATHS = ("checkpoint", "images", "prompts", "dataset", "calibration", "fit", "captions")


class VerifyChoices(TypedDict, total=False):
    """Keywords of `verify`."""

    checkpoint: StrPath | None
    images: StrPath | None
    prompts: StrPath | None
    dataset: StrPath | None
    calibration: StrPath | None
    gates: Gates | None
    thorough: bool
    place: str | None
    fit: StrPath | None
    captions: StrPath | None
    baseline: StrPath | None
    accept: bool
    accept_undecided: bool
    only_files: bool
    progress: Progress


@overload  # a str is a sequence of str too, and the first overload that fits counts
def verify(  # type: ignore[overload-overlap]
    bundle: Bundle | StrPath, **choices: Unpack[VerifyChoices]
) -> ParityReport: ...
@overload
def verify(bundle: Sequence[Bundle | StrPath], **choices: Unpack[VerifyChoices]) -> tuple[ParityReport, ...]: ...
def verify(
    bundle: Bundle | StrPath | Sequence[Bundle | StrPath], **choices: Unpack[VerifyChoices]
) -> ParityReport | tuple[ParityReport, ...]:
    """Checks a bundle against the checkpoint it was exported from, by both steps, on real images and prompts.

    Args:
        bundle: as returned by `export`, or its folder; or a list of them, which gives a report of each. The first
            that cannot be verified raises its error.
        checkpoint: the source; when None the built-in one, or a file of the recorded name and hash next to the bundle
            or in the working directory. Without it the semantic step is reported as not run.
        images: a folder of images instead of the stored ones; needs the checkpoint.
        prompts: a file of prompts instead of the stored ones; needs the checkpoint.
        dataset: a dataset folder on which to compare accuracy; for the built-in checkpoint its own held-out set.
        calibration: the folder of images that the bundle was calibrated on, if on one of yours: it is converted again.
        gates: the bounds; those that the bundle was exported with when None.
        thorough: convert again and measure accuracy on the whole dataset; otherwise the report names these checks as
            left out, and accuracy is measured on a sample of it (check `sampled`).
        place: `gpu` compiles LiteRT's artifacts for the GPU as well, on Mesa's software Vulkan (docs/litert.md);
            `npu` compiles Qualcomm's once more, and reports for each operation if the NPU takes it (docs/qualcomm.md).
        fit, captions: the pictures and captions that the axes of smaller embeddings were fitted to: they are fitted
            again and compared.
        baseline: a lock file with the figures last accepted (docs/ci.md); drift beyond noise fails as well.
        accept: write today's figures into `baseline` instead, if every check passed.
        accept_undecided: with `accept`, write them also if accuracy is undecided.
        only_files: check hashes, the manifest and the artifacts' stored answers alone (`verify_files`).

    Raises:
        InvalidInput: the bundle is damaged, another checkpoint was given, or the baseline does not contain the bundle.
        UsageError: no bundle; or `accept` without a baseline; or the bundle's format is not compiled for the place.
        RuntimeFailed: the runtime refused an artifact.
    """
    progress = choices.pop("progress", silent)
    lock = Baseline.of(
        choices.pop("baseline", None), choices.pop("accept", False), choices.pop("accept_undecided", False)
    )
    listed = (bundle,) if isinstance(bundle, Bundle | str | PathLike) else tuple(bundle)
    if not listed:
        raise UsageError("no bundle was given")
    options: dict[str, Any] = {**choices}
    options |= {name: Path(options[name]) for name in PATHS if options.get(name) is not None}
    requests = (VerifyRequest(item, **options) for item in listed)
    reports = tuple(verify_bundle(item, baseline=lock, progress=progress).report for item in requests)
    return reports[0] if isinstance(bundle, Bundle | str | PathLike) else reports


def explain(
    bundle: Bundle | StrPath,
    *,
    checkpoint: StrPath | None = None,
    calibration: StrPath | None = None,
    progress: Progress = silent,
) -> tuple[Explanation, ...]:
    """Finds for each tower of a bundle the first operation that differs from its checkpoint, if any.

    Args:
        bundle: as returned by `export`, or its folder.
        checkpoint, calibration: as for `verify`.

    Raises:
        UsageError: the target's artifacts cannot be read, or the checkpoint is missing.
        InvalidInput: the bundle is damaged, or another checkpoint was given.
    """
    request = VerifyRequest(bundle, checkpoint=optional_path(checkpoint), calibration=optional_path(calibration))
    from mobileclip_deploy.verify.opening import opened_subject

    with opened_subject(request, progress) as subject:
        return explain_subject(subject)


def compare(
    bundles: Bundle | StrPath | Sequence[Bundle | StrPath],
    *,
    dataset: StrPath | None = None,
    checkpoint: StrPath | None = None,
    baseline: StrPath | None = None,
    gates: Gates | None = None,
    templates: str | Sequence[str] = (),
    class_names: StrPath | None = None,
    images: StrPath | None = None,
    split: str = "test",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compares bundles side by side: bytes, deviation on their golden inputs, accuracy, and gates.

    Accuracy is compared with the checkpoint's, or with that of the first bundle of the same embedding space. Without a
    dataset, the built-in checkpoint's is used if all bundles come from that checkpoint. Otherwise accuracy is not
    measured, and the notes say so.

    Args:
        bundles: as returned by `export`, or their folders.
        dataset, templates, class_names, images, split, skip_bad, cache: as for `evaluate`.
        checkpoint: the source of the bundles; found as for `verify` when None.
        baseline: the original that the bundles' checkpoint was fine-tuned from. The notes say how accuracy changed, and
            that embeddings are not comparable.
        gates: the bounds; for each bundle those that it was exported with when None.

    Raises:
        InvalidInput: the dataset or a bundle cannot be used, or the given checkpoint belongs to no bundle.
        UsageError: no bundle, or one twice.
        RuntimeFailed: a runtime refused an artifact.
    """
    listed = (bundles,) if isinstance(bundles, Bundle | str | PathLike) else bundles
    subjects = [Bundle.of(bundle) for bundle in listed]
    how = Measuring(parse_templates(templates), skip_bad, optional_path(cache))
    builtin = all(bundle.manifest.checkpoint.builtin for bundle in subjects)
    data = chosen_dataset(dataset, class_names, images, split, skip_bad, builtin=builtin)
    checkpoint_path = optional_path(checkpoint)
    if checkpoint_path is None and baseline is None and not torch_installed():
        comparison = compare_bundles(subjects, data, lambda _: None, gates, how, progress)
        return comparison.model_copy(update={"notes": (*comparison.notes, WITHOUT_CHECKPOINT)})
    from mobileclip_deploy.artifacts.bundle.source import is_source, open_source
    from mobileclip_deploy.evaluation.checkpoints import change_from
    from mobileclip_deploy.network.checkpoints.loading import load

    from_checkpoint = {
        bundle.path for bundle in subjects if checkpoint_path is not None and is_source(bundle, checkpoint_path)
    }
    if checkpoint_path is not None and not from_checkpoint:
        raise InvalidInput(f"{checkpoint} is not the checkpoint of any given bundle")

    def source(bundle: Bundle) -> Source | None:
        return open_source(bundle, checkpoint_path if bundle.path in from_checkpoint else None)

    comparison = compare_bundles(subjects, data, source, gates, how, progress)
    if baseline is None:
        return comparison
    original = load(Path(baseline))
    sources = {bundle.manifest.embedding_space: opened for bundle in subjects if (opened := source(bundle)) is not None}
    if not sources:
        raise InvalidInput("the checkpoint of the bundles was not found, which `baseline` needs; give `checkpoint`")
    notes = [change_from(original, tuned.model, data, how, progress) for tuned in sources.values()]
    return comparison.model_copy(update={"notes": (*comparison.notes, *notes)})
