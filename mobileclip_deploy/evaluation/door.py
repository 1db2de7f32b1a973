"""`evaluate` measures a bundle's accuracy on a dataset; `load_runner` loads one of its towers to run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset import Dataset, check_tasks
from mobileclip_deploy.evaluation.dataset_files import BUILTIN, read_dataset, require_discriminating
from mobileclip_deploy.evaluation.evaluate import EvaluationResult, Measuring, measure
from mobileclip_deploy.evaluation.templates import parse_templates
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import Pixels
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.subjects import CheckedRunner, embedder_of, opened

__all__ = ["NO_DATASET", "EvaluationResult", "chosen_dataset", "evaluate", "evaluate_on", "load_runner"]

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
    pixels: Pixels = "app",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> EvaluationResult:
    """Measures zero-shot classification and retrieval of a bundle or of a loaded model.

    Args:
        subject: a bundle, its folder, or a model from `load_model`.
        dataset: a folder or file (docs/evaluation.md), or "builtin" for the built-in held-out set. If None, the
            built-in checkpoint takes that set; others need a path.
        task: "classification" or "retrieval"; all the dataset allows if None.
        templates: prompts with `{}` for the class, or files of them; several are averaged. If empty: the dataset's own,
            or else the model's.
        class_names: a file of class names, instead of the dataset's own.
        images: the folder of the images of a table or of Karpathy's file; next to that file if None.
        split: of Karpathy's files and of CLIP_benchmark's shards.
        language: a language that the dataset's dataset.json lists, for classes and captions; the result then has the
            English figures as well.
        pixels: "app" as an app shows pictures: upright, transparency on white. "reference" as open_clip and
            CLIP_benchmark compute them, for comparison with published figures: neither.
        skip_bad: leave out rows that cannot be used (`EvaluationResult.skipped`) instead of refusing the first.
        cache: a folder for embeddings, so that an interrupted run can resume; not kept if None.

    Raises:
        InvalidInput: the dataset or the bundle cannot be used.
        UsageError: no dataset, the dataset cannot be used for the task, or a template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    how = Measuring(parse_templates(templates), skip_bad, optional_path(cache), pixels=pixels)
    whole = opened(subject)
    origin = whole.manifest.checkpoint if isinstance(whole, Bundle) else whole.origin
    data = chosen_dataset(dataset, class_names, images, split, skip_bad, builtin=origin.builtin)
    if data is None:
        raise UsageError(f"nothing to evaluate on: {NO_DATASET}")
    if language is None:
        return evaluate_on(whole, data, task, how, progress)
    if how.templates or class_names is not None:
        raise UsageError("`language` has its own classes and templates; leave `templates` and `class_names` out")
    translated = require_discriminating(
        read_dataset(Path(BUILTIN if dataset is None else dataset), skip_bad=skip_bad, language=language)
    )
    with temporary_folder() as folder:  # images are embedded once
        cached = how if how.cache is not None else replace(how, cache=folder)
        english = evaluate_on(whole, data, task, cached, progress)
        result = evaluate_on(whole, translated, task, cached, progress)
    return result.model_copy(update={"language": language, "english": english.figures})


def evaluate_on(
    subject: Bundle | MobileCLIP, dataset: Dataset, task: str | None, how: Measuring, progress: Progress = silent
) -> EvaluationResult:
    """Measures as `evaluate` does, on a dataset that is already read."""
    tasks = check_tasks(dataset, (task,) if task else None)
    tags = subject.manifest.classifier.tags if isinstance(subject, Bundle) and subject.manifest.classifier else None
    file = within(subject.path, tags.file.file) if isinstance(subject, Bundle) and tags else None
    digests = () if file is None else LabelHead.read(file).digests
    how = replace(how, by_label=True, learned=frozenset(row.tobytes().hex() for row in digests))
    measurement = measure(embedder_of(subject), dataset, tasks, how, progress)
    return measurement.result.model_copy(update={"images_per_second": measurement.images_per_second})


def load_runner(bundle: Bundle | MobileCLIP | StrPath, tower: TowerName) -> CheckedRunner:
    """Loads one tower of a bundle or of a checkpoint to run it here, as a callable on numpy arrays.

    For every target, an image tower takes RGB pixels float32 [N, 3, S, S] in [0, 1] (float16 and float64 are converted;
    mean and std are inside the artifact). A text tower takes token ids [N, L] of any integer type. N is 1 or more. Both
    return float32 [N, D], not normalised; a classifier's image tower returns probabilities [N, L]. Core ML's image
    input holds bytes, so other pixels are rounded to multiples of 1/255, as in an app. `preprocess` and `tokenize` make
    such inputs from images and texts.

    The callable raises InvalidInput, in one sentence, for: bytes and other integers as pixels, values outside [0, 1] by
    more than rounding, NaN, infinite values, other shapes, and ids that are not integers or not in the vocabulary.

    Args:
        bundle: as returned by `export`, or its folder; or a model from `load_model`, which torch runs.
        tower: "image" or "text".

    Raises:
        InvalidInput: the bundle is damaged.
        UsageError: it does not have the tower.
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
    """Reads the dataset that a caller names, else the built-in one if the built-in checkpoint is measured. None if no
    dataset is named and the checkpoint is another one.

    Raises:
        InvalidInput, UsageError: see `read_dataset` and `require_discriminating`.
    """
    if dataset is None and not builtin:
        return None
    chosen = read_dataset(
        Path(BUILTIN if dataset is None else dataset),
        class_names=optional_path(class_names),
        images=optional_path(images),
        split=split,
        skip_bad=skip_bad,
    )
    return require_discriminating(chosen)
