"""Zero-shot classification and retrieval over a bundle or the checkpoint itself."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from mobileclip_deploy.artifacts.heads.label_head import Thresholds
from mobileclip_deploy.base.escaping import writable
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.intervals import Interval
from mobileclip_deploy.base.progress import about
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset import Dataset, check_tasks
from mobileclip_deploy.evaluation.label_figures import MOST_SCORES, Flags, LabelFigures, Ranks, label_figures
from mobileclip_deploy.evaluation.metrics import classify, percentage, retrieval_ranks
from mobileclip_deploy.network.model.preprocessing import Pixels
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.embedding import embed_classes, embed_prompts, unit
from mobileclip_deploy.pictures.pictures import Reading, embed_dataset_images

WORDNET = re.compile(r"n\d{8}")


class ClassFigures(BaseModel, frozen=True):
    """Accuracy on one class: its images, and the percentage that has it as nearest class (top1) or among the nearest 5.

    `precision`, `recall`: of the nearest class, or of a learned label where it is present. `average_precision`: of the
    images ordered by their score for the class. None where undefined.
    """

    name: str
    images: int
    top1: float | None
    top5: float | None
    precision: float | None = None
    recall: float | None = None
    average_precision: float | None = None


class Mistake(BaseModel, frozen=True):
    """A picture without its own label, which has `score`, or with another one; `predicted` has the score of each label
    that it got. Scores are a classifier's outputs (probabilities in a bundle), else cosines."""

    image: str
    label: str
    score: float
    predicted: dict[str, float]


class EvaluationResult(BaseModel, frozen=True):
    """Figures of one embedder on one dataset, in percent; mean ranks count from 1.

    `averages`: precision, recall and average precision of the classes, `macro_` and `micro_`. `confusion[a][b]`: number
    of images of class a whose nearest class is b; zeros are left out. `skipped`: a message for each row that was left
    out. `images_per_second`: of embedded images, reading included. None if not measured, if all were cached, or if an
    evaluator or an emulator computed them. `language`: of the texts if not English; `english` then has the figures of
    the same images with English texts. `pixels`: see `Pixels`.
    """

    schema_version: Literal[1] = 1
    model: str
    engine: str
    embedding_space: str
    dataset: str
    images: int
    captions: int = 0
    classes: int
    templates: tuple[str, ...] = ()
    figures: dict[str, Interval]
    mean_ranks: dict[str, float]
    per_class: tuple[ClassFigures, ...] = ()
    averages: dict[str, float] = {}
    confusion: dict[str, dict[str, int]] = {}
    mistakes: tuple[Mistake, ...] = ()
    skipped: tuple[str, ...] = ()
    images_per_second: float | None = None
    language: str | None = None
    english: dict[str, Interval] | None = None
    pixels: Pixels = "app"

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """Returns the most frequent confusions: true class, nearest class, number of images."""
        wrong = [
            (right, nearest, images)
            for right, row in self.confusion.items()
            for nearest, images in row.items()
            if nearest != right
        ]
        return sorted(wrong, key=lambda entry: -entry[2])[:count]


@dataclass(frozen=True)
class Measuring:
    """Options of a measurement.

    Attributes:
        templates: prompts that replace the dataset's or the model's own; several are averaged.
        skip_bad: leave out images that cannot be used instead of refusing the first.
        cache: a folder of embeddings to read from and add to.
        captions: unit-length embeddings of the dataset's captions [M, D], if they are already computed.
        pixels: see `Pixels`.
        learned: see `Reading`.
        by_label: also compute precision, recall and average precision of each class, which sorts all scores.
    """

    templates: tuple[str, ...] = ()
    skip_bad: bool = False
    cache: Path | None = None
    captions: Floats | None = None
    pixels: Pixels = "app"
    learned: frozenset[str] = frozenset()
    by_label: bool = False


IN_FULL = Measuring()


@dataclass(frozen=True)
class Measurement:
    """A result, with the hits of each example and the embeddings that a paired comparison needs.

    `images` [N, D] and `texts` [M, D] have unit length; the texts are captions, or else classes. The speed is here and
    not in the result, because the result is the same on every machine.
    """

    result: EvaluationResult
    hits: dict[str, Flags]
    examples: tuple[str, ...]
    images: Floats
    texts: Floats
    images_per_second: float | None = None


def measure(
    embedder: Embedder,
    dataset: Dataset,
    tasks: Sequence[str] | None = None,
    how: Measuring = IN_FULL,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Measures an embedder on a dataset, with one batch of images in memory at a time.

    Args:
        tasks: classification, retrieval; all that the dataset can be used for if None.
        progress: called with a few words on the progress.

    Raises:
        UsageError: the dataset cannot be used for a task.
        InvalidInput: an image cannot be used, or a classifier does not know a class.
    """
    chosen = check_tasks(dataset, ("classification",) if tasks is None and embedder.labels else tasks)
    class_rows = label_rows(embedder.labels, dataset.classes) if embedder.labels else None
    progress(f"accuracy on {dataset.name}, {len(dataset.images):,} images")
    reading = Reading(how.skip_bad, how.cache, pixels=how.pixels, learned=how.learned)
    images, tally = embed_dataset_images(embedder, dataset.images, dataset.rows, reading, progress)
    answers, images = images, unit(images)  # [N, D] of length 1, so that products with prompts [C, D] are cosines
    if tally.bad:
        dataset = dataset.without(tally.bad)
    hits: dict[str, Flags] = {}
    mean_ranks: dict[str, float] = {}
    of_classes: dict[str, Any] = {}
    texts = np.zeros((0, images.shape[1]), np.float32)
    prompts = how.templates or dataset.templates or (embedder.template,)
    if "classification" in chosen:
        progress("class prompts")
        texts = classes = (
            embed_classes(embedder, dataset.classes, prompts, how.cache) if class_rows is None else class_rows
        )
        labels = np.asarray(dataset.labels)
        ranks, nearest = classify(images, classes, labels)
        hits |= {f"top{k}": ranks < k for k in (1, 5)}
        of_labels = None
        if how.by_label and len(images) * len(classes) <= MOST_SCORES:
            predicted = _predicted(answers, embedder.thresholds, classes, nearest)
            scores = (images if class_rows is None else answers) @ classes.T
            of_labels = label_figures(scores, labels, predicted)
            of_classes = {"averages": of_labels.averages, "mistakes": _mistakes(dataset, scores, predicted)}
        of_classes["per_class"] = _per_class(dataset.classes, labels, ranks, of_labels)
        of_classes["confusion"] = _confusion(dataset.classes, labels, nearest)
    if "retrieval" in chosen:
        captions, report = how.captions, about("captions", progress)
        texts = embed_prompts(embedder, dataset.captions, how.cache, report) if captions is None else captions
        directions = retrieval_ranks(images, texts, np.asarray(dataset.caption_images))
        for name, ranks in zip(("image_to_text", "text_to_image"), directions, strict=True):
            hits |= {f"{name}_recall@{k}": ranks < k for k in (1, 5, 10)}
            mean_ranks[name] = float(ranks.mean() + 1)
    result = EvaluationResult(
        model=embedder.name,
        engine=embedder.engine,
        embedding_space=embedder.embedding_space,
        dataset=dataset.name,
        pixels=how.pixels,
        images=len(dataset.images),
        captions=len(dataset.captions),
        classes=len(dataset.classes),
        templates=prompts if "classification" in chosen and class_rows is None else (),
        figures={name: percentage(outcome) for name, outcome in hits.items()},
        mean_ranks=mean_ranks,
        skipped=dataset.skipped,
        **of_classes,
    )
    return Measurement(result, hits, dataset.rows, images, texts, tally.per_second)


def label_rows(labels: Sequence[str], classes: Sequence[str]) -> Floats:
    """Returns one-hot rows [K, L] that select each class of a dataset in the outputs of a classifier.

    Classes match labels by name. If the dataset's classes are all ImageNet folders, their sorted WordNet numbers match
    the labels' order.

    Raises:
        InvalidInput: a class that is not a label.
    """
    if len(classes) == len(labels) and all(WORDNET.fullmatch(name) for name in classes):
        return np.eye(len(labels), dtype=np.float32)[np.argsort(np.argsort(classes))]
    label_index = {label.casefold(): index for index, label in enumerate(labels)}
    unknown = next((name for name in classes if name.casefold() not in label_index), None)
    if unknown is not None:
        raise InvalidInput(
            f"the classifier has no label {unknown!r} (it has {', '.join(labels[:3])} and {len(labels) - 3} more); "
            "name the dataset's classes as in its labels.json"
        )
    return np.eye(len(labels), dtype=np.float32)[[label_index[name.casefold()] for name in classes]]


def _predicted(answers: Floats, thresholds: Thresholds | None, classes: Floats, nearest: Ranks) -> Flags:
    """Returns which classes are predicted for each image [N, K]: the nearest, or the learned labels that are present.

    "None of these" is predicted if no label is present.
    """
    if thresholds is None:
        return np.asarray(nearest[:, None] == np.arange(len(classes)))
    present = np.zeros(answers.shape, np.float32)
    for row, probabilities in zip(present, answers, strict=True):
        row[thresholds.present(probabilities) or [-1]] = 1
    return np.asarray(present @ classes.T > 0)


def _per_class(
    names: Sequence[str], labels: Ranks, ranks: Ranks, of_labels: LabelFigures | None
) -> tuple[ClassFigures, ...]:
    figures = []
    for index, name in enumerate(names):
        class_ranks = ranks[labels == index]
        shares = [100 * float((class_ranks < k).mean()) if len(class_ranks) else None for k in (1, 5)]
        kinds = ("precision", "recall", "average_precision") if of_labels is not None else ()
        values = {key: float(getattr(of_labels, key)[index]) for key in kinds}
        more = {key: None if np.isnan(value) else value for key, value in values.items()}
        figures.append(ClassFigures(name=name, images=len(class_ranks), top1=shares[0], top5=shares[1], **more))
    return tuple(figures)


def _mistakes(dataset: Dataset, scores: Floats, predicted: Flags) -> tuple[Mistake, ...]:
    names, labels = dataset.classes, np.asarray(dataset.labels)
    wrong = (predicted != (labels[:, None] == np.arange(len(names)))).any(axis=1)
    mistakes = []
    for row in np.flatnonzero(wrong):
        labelled = {names[index]: float(scores[row, index]) for index in np.flatnonzero(predicted[row])}
        label, image = labels[row], writable(str(dataset.images[row]))
        mistakes.append(Mistake(image=image, label=names[label], score=float(scores[row, label]), predicted=labelled))
    return tuple(mistakes)


def _confusion(names: Sequence[str], labels: Ranks, nearest: Ranks) -> dict[str, dict[str, int]]:
    pairs, counts = np.unique(np.stack([labels, nearest], axis=1), axis=0, return_counts=True)
    table: dict[str, dict[str, int]] = {}
    for (right, predicted), images in zip(pairs, counts, strict=True):
        table.setdefault(names[right], {})[names[predicted]] = int(images)
    return table
