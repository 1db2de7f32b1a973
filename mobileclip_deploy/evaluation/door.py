"""`evaluate` and `load_runner`: what a bundle is worth on a dataset, and how to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset import Dataset, check_tasks
from mobileclip_deploy.evaluation.dataset_files import BUILTIN, read_dataset, telling
from mobileclip_deploy.evaluation.evaluate import EvaluationResult, Measuring, measure
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.embedder import CheckedRunner, embedder_of, opened
from mobileclip_deploy.pictures.text_files import parse_templates

__all__ = [
    "NO_DATASET",
    "EvaluationResult",
    "chosen_dataset",
    "evaluate",
    "evaluate_on",
    "load_runner",
]

NO_DATASET = (
    "only the built-in checkpoint has a dataset of its own; name yours with `dataset='PATH'`, or the built-in one, "
    "emoji, with `dataset='builtin'`"
)


def evaluate(
    subject: Bundle | MobileCLIP | StrPath,
    *,
    dataset: StrPath | None = None,
    task: str | None = None,
    templates: str | Sequence[str] = (),
    class_names: StrPath | None = None,
    images: StrPath | None = None,
    split: str = "test",
    language: str | None = None,
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> EvaluationResult:
    """Zero-shot classification and retrieval of a bundle, or of a loaded model.

    Args:
        subject: a bundle, its folder, or a model from `load_model`.
        dataset: a dataset's folder or file (docs/datasets.md), or "builtin" for the built-in held-out set, which is
            that of the built-in checkpoint when None; others have none of their own.
        task: "classification" or "retrieval"; all the dataset allows when None.
        templates: prompts with `{}` for the class, or files of them; several are averaged. The dataset's own, or else
            the model's, when there are none.
        class_names: a file of class names, instead of the dataset's own.
        images: the folder of a table's or of Karpathy's images; their own when None.
        split: of Karpathy's files and of CLIP_benchmark's shards.
        language: with classes and captions in it, which the dataset's dataset.json names; the result has the figures of
            the English ones beside.
        skip_bad: leave out rows that cannot be used (`EvaluationResult.skipped`) instead of refusing the first.
        cache: a folder that keeps embeddings, so that an interrupted run goes on where it was; none when None.

    Raises:
        InvalidInput: the dataset or the bundle cannot be used.
        UsageError: no dataset, the dataset cannot be used for the task, or a template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    how = Measuring(parse_templates(templates), skip_bad, optional_path(cache))
    whole = opened(subject)
    origin = Source.of(whole).provenance if isinstance(whole, MobileCLIP) else whole.manifest.checkpoint
    data = chosen_dataset(dataset, class_names, images, split, skip_bad, builtin=origin.builtin)
    if data is None:
        raise UsageError(f"nothing to evaluate on: {NO_DATASET}")
    if language is None:
        return evaluate_on(whole, data, task, how, progress)
    if how.templates or class_names is not None:
        raise UsageError("`language` brings classes and templates of its own; leave `templates` and `class_names` out")
    told = telling(read_dataset(Path(BUILTIN if dataset is None else dataset), skip_bad=skip_bad, language=language))
    with temporary_folder() as folder:  # images are embedded once
        kept = how if how.cache is not None else replace(how, cache=folder)
        english = evaluate_on(whole, data, task, kept, progress)
        own = evaluate_on(whole, told, task, kept, progress)
    return own.model_copy(update={"language": language, "english": english.figures})


def evaluate_on(
    subject: Bundle | MobileCLIP, dataset: Dataset, task: str | None, how: Measuring, progress: Progress = silent
) -> EvaluationResult:
    """As `evaluate`, on a dataset that was read already."""
    found = measure(embedder_of(subject), dataset, check_tasks(dataset, (task,) if task else None), how, progress)
    return found.result.model_copy(update={"images_per_second": found.images_per_second})


def load_runner(bundle: Bundle | MobileCLIP | StrPath, tower: TowerName) -> CheckedRunner:
    """Load one tower of a bundle to run it here, or take that of a checkpoint: a callable on numpy arrays.

    Whatever the target, an image tower takes RGB pixels float32 [N, 3, S, S] in [0, 1] (float16 and float64 are
    converted; mean and std stand inside), a text tower token ids [N, L] of any integer type; N is 1 or more. Both
    answer float32 [N, D], not normalised; a classifier's image tower probabilities [N, L]. Core ML's image input holds
    bytes: pixels between the multiples of 1/255 are rounded to them there, as an app's are. `preprocess` and `tokenize`
    make such inputs of images and texts.

    The callable raises InvalidInput, in one sentence, for bytes and other integers as pixels, values outside [0, 1] by
    more than rounding, NaN, infinite numbers, other shapes, and ids that are no integers or not of the vocabulary.

    Args:
        bundle: as returned by `export`, or its folder; or a model from `load_model`, which torch runs.
        tower: "image" or "text".

    Raises:
        InvalidInput: the bundle is damaged.
        UsageError: it does not hold the tower.
        RuntimeFailed: nothing here can run it.
    """
    return CheckedRunner(opened(bundle), tower)


def chosen_dataset(
    dataset: StrPath | None,
    class_names: StrPath | None,
    images: StrPath | None,
    split: str,
    skip_bad: bool,
    *,
    builtin: bool,
) -> Dataset | None:
    """The dataset that a caller names; where none is named that of the built-in checkpoint, if it is the one that is
    measured. Others have none of their own: None.

    Raises:
        InvalidInput, UsageError: see `read_dataset` and `telling`.
    """
    if dataset is None and not builtin:
        return None
    found = read_dataset(
        Path(BUILTIN if dataset is None else dataset),
        class_names=optional_path(class_names),
        images=optional_path(images),
        split=split,
        skip_bad=skip_bad,
    )
    return telling(found)
