"""Zero-shot classification and retrieval over a bundle or the checkpoint itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from mobileclip_deploy.base.intervals import Interval
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset import Dataset, check_tasks
from mobileclip_deploy.evaluation.metrics import classify, percentage, retrieval_ranks
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.embedding import embed_classes, embed_prompts, unit
from mobileclip_deploy.pictures.pictures import Reading, embed_dataset_images

WORDNET = re.compile(r"n\d{8}")


class ClassFigures(BaseModel, frozen=True):
    """One class: its images, and the share of them in percent whose nearest class it is, or is among the nearest 5."""

    name: str
    images: int
    top1: float | None
    top5: float | None


class EvaluationResult(BaseModel, frozen=True):
    """Figures of one embedder on one dataset, in percent; mean ranks count from 1.

    `confusion[a][b]`: images of class a whose nearest class is b, where there are any. `skipped`: the rows that were
    left out, and why. `images_per_second`: of those that were embedded, reading included; None where it was not asked
    for, all were in the cache, or an evaluator or an emulator computed them. `language`: of texts in another language
    than English; `english` are the figures of the same images with the English ones then.
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
    confusion: dict[str, dict[str, int]] = {}
    skipped: tuple[str, ...] = ()
    images_per_second: float | None = None
    language: str | None = None
    english: dict[str, Interval] | None = None

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The pairs of classes that are most often taken for each other: the right one, the nearest, how often."""
        wrong = [
            (right, nearest, images)
            for right, row in self.confusion.items()
            for nearest, images in row.items()
            if nearest != right
        ]
        return sorted(wrong, key=lambda entry: -entry[2])[:count]


@dataclass(frozen=True)
class Measuring:
    """How a dataset is measured.

    Attributes:
        templates: of prompts, instead of the dataset's or the model's own; several are averaged.
        skip_bad: leave out images that cannot be used instead of refusing the first.
        cache: a folder of embeddings to take from and add to.
        captions: the embeddings of the dataset's captions, unit length [M, D], where they are known already.
    """

    templates: tuple[str, ...] = ()
    skip_bad: bool = False
    cache: Path | None = None
    captions: npt.NDArray[np.float32] | None = None


IN_FULL = Measuring()


@dataclass(frozen=True)
class Measurement:
    """A result, and what a paired comparison needs: which examples were hit by each of its figures, and embeddings of
    unit length, of images [N, D] and of what they are told apart by [M, D], captions or else classes. How fast it was
    stands here, not in the result, which is the same on every machine."""

    result: EvaluationResult
    hits: dict[str, npt.NDArray[np.bool_]]
    examples: tuple[str, ...]
    images: npt.NDArray[np.float32]
    texts: npt.NDArray[np.float32]
    images_per_second: float | None = None


def measure(
    embedder: Embedder,
    dataset: Dataset,
    tasks: Sequence[str] | None = None,
    how: Measuring = IN_FULL,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Measure an embedder on a dataset, a batch of images in memory at a time.

    Args:
        tasks: classification, retrieval; all that the dataset can be used for when None.
        progress: told how far it is, in a few words.

    Raises:
        UsageError: the dataset cannot be used for a task.
        InvalidInput: an image cannot be used, or a classifier does not know a class.
    """
    wanted = check_tasks(dataset, ("classification",) if tasks is None and embedder.labels else tasks)
    known = label_rows(embedder.labels, dataset.classes) if embedder.labels else None
    progress(f"accuracy on {dataset.name}, {len(dataset.images):,} images")
    images, tally = embed_dataset_images(
        embedder, dataset.images, dataset.rows, Reading(how.skip_bad, how.cache), progress
    )
    images = unit(images)  # [N, D] of length 1, so that products with prompts [C, D] are cosines
    if tally.bad:
        dataset = dataset.without(tally.bad)
    hits: dict[str, npt.NDArray[np.bool_]] = {}
    mean_ranks: dict[str, float] = {}
    per_class: tuple[ClassFigures, ...] = ()
    confusion: dict[str, dict[str, int]] = {}
    texts = np.zeros((0, images.shape[1]), np.float32)
    prompts = how.templates or dataset.templates or (embedder.template,)
    if "classification" in wanted:
        progress("class prompts")
        texts = classes = embed_classes(embedder, dataset.classes, prompts, how.cache) if known is None else known
        labels = np.asarray(dataset.labels)
        ranks, nearest = classify(images, classes, labels)
        hits |= {f"top{k}": ranks < k for k in (1, 5)}
        per_class = _per_class(dataset.classes, labels, ranks)
        confusion = _confusion(dataset.classes, labels, nearest)
    if "retrieval" in wanted:
        progress("captions")
        texts = embed_prompts(embedder, dataset.captions, how.cache) if how.captions is None else how.captions
        directions = retrieval_ranks(images, texts, np.asarray(dataset.caption_images))
        for name, ranks in zip(("image_to_text", "text_to_image"), directions, strict=True):
            hits |= {f"{name}_recall@{k}": ranks < k for k in (1, 5, 10)}
            mean_ranks[name] = float(ranks.mean() + 1)
    result = EvaluationResult(
        model=embedder.name,
        engine=embedder.engine,
        embedding_space=embedder.embedding_space,
        dataset=dataset.name,
        images=len(dataset.images),
        captions=len(dataset.captions),
        classes=len(dataset.classes),
        templates=prompts if "classification" in wanted and known is None else (),
        figures={name: percentage(found) for name, found in hits.items()},
        mean_ranks=mean_ranks,
        per_class=per_class,
        confusion=confusion,
        skipped=dataset.skipped,
    )
    return Measurement(result, hits, dataset.rows, images, texts, tally.per_second)


def label_rows(labels: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float32]:
    """What stands for the classes of a dataset in the answers of a classifier: a row for each with 1 at its own number,
    [K, L]. Classes are told by name, or where all of ImageNet's folders are there by their WordNet numbers, whose order
    is that of the labels.

    Raises:
        InvalidInput: a class that is no label.
    """
    if len(classes) == len(labels) and all(WORDNET.fullmatch(name) for name in classes):
        return np.eye(len(labels), dtype=np.float32)[np.argsort(np.argsort(classes))]
    places = {label.casefold(): number for number, label in enumerate(labels)}
    unknown = next((name for name in classes if name.casefold() not in places), None)
    if unknown is not None:
        raise InvalidInput(
            f"the classifier has no label {unknown!r}; it tells apart {', '.join(labels[:3])} and {len(labels) - 3} "
            "more, so name the dataset's classes as its labels.json does"
        )
    return np.eye(len(labels), dtype=np.float32)[[places[name.casefold()] for name in classes]]


def _per_class(
    names: Sequence[str], labels: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]
) -> tuple[ClassFigures, ...]:
    figures = []
    for number, name in enumerate(names):
        own = ranks[labels == number]
        shares = [100 * float((own < k).mean()) if len(own) else None for k in (1, 5)]
        figures.append(ClassFigures(name=name, images=len(own), top1=shares[0], top5=shares[1]))
    return tuple(figures)


def _confusion(
    names: Sequence[str], labels: npt.NDArray[np.int64], nearest: npt.NDArray[np.int64]
) -> dict[str, dict[str, int]]:
    pairs, counts = np.unique(np.stack([labels, nearest], axis=1), axis=0, return_counts=True)
    table: dict[str, dict[str, int]] = {}
    for (right, found), images in zip(pairs, counts, strict=True):
        table.setdefault(names[right], {})[names[found]] = int(images)
    return table
