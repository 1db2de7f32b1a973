"""Measurement of a suite: each dataset by its own metric, next to the variant's published figure, and a self-contained
HTML page."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.pages import filled_page
from mobileclip_deploy.base.intervals import Interval
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.benchmark.suite import figures
from mobileclip_deploy.benchmark.suite.samples import read_captioned, read_puzzles, read_samples
from mobileclip_deploy.benchmark.suite.tasks import Suite, SuiteTask, published
from mobileclip_deploy.errors import DependencyMissing, InvalidInput, UsageError
from mobileclip_deploy.evaluation.metrics import classify, retrieval_ranks
from mobileclip_deploy.network.model.preprocessing import Pixels
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.embedding import BATCH, embed_classes, embed_prompts, unit
from mobileclip_deploy.pictures.pictures import Reading, embed_contents, embed_dataset_images

MANY = 10  # WinoGAViL's figure is that of the puzzles with 10 and 12 candidates
T = TypeVar("T")


class Row(BaseModel, frozen=True):
    """Result of one dataset.

    Attributes:
        reason: explanation of a dataset that was not run or has failed.
        figure: metric in percent; None if the dataset was not run or has failed.
        published: figure of the variant's authors.
        difference: `figure` minus `published` in points, with the interval of the figure.
        skipped: images that were left out, with the reason.
    """

    key: str
    name: str
    metric: str
    status: Literal["measured", "not run", "failed"]
    reason: str | None = None
    examples: int | None = None
    expected: int
    figure: Interval | None = None
    published: float | None = None
    difference: Interval | None = None
    skipped: tuple[str, ...] = ()


class SuiteResult(BaseModel, frozen=True):
    """Result of a suite for a model. `average` is the plain mean of the figures; None unless every dataset was
    measured. `pixels`: see `Pixels`."""

    suite: str
    source: str
    model: str
    variant: str
    engine: str
    embedding_space: str
    rows: tuple[Row, ...]
    average: float | None
    published_average: float | None
    published_source: str | None
    pixels: Pixels = "reference"

    @property
    def failed(self) -> tuple[Row, ...]:
        """Datasets that are there and could not be measured."""
        return tuple(row for row in self.rows if row.status == "failed")


REFERENCE = Reading(pixels="reference")


def measure_suite(
    embedder: Embedder,
    suite: Suite,
    data: Path,
    how: Reading = REFERENCE,
    progress: Progress = silent,
) -> SuiteResult:
    """Measures the available datasets of a suite; the arguments are those of `evaluate_suite`."""
    by_key, source = published(embedder.variant)
    rows = []
    for number, task in enumerate(suite.datasets, start=1):
        progress(f"{task.name}, dataset {number} of {len(suite.datasets)}")
        rows.append(_row(task, data / task.folder, _Run(embedder, how, progress), by_key.get(task.key)))
    values = [row.figure.value for row in rows if row.figure is not None]
    references = [by_key[task.key] for task in suite.datasets if task.key in by_key]
    return SuiteResult(
        suite=suite.name,
        source=suite.source,
        model=embedder.name,
        variant=embedder.variant,
        engine=embedder.engine,
        embedding_space=embedder.embedding_space,
        rows=tuple(rows),
        average=sum(values) / len(values) if len(values) == len(rows) else None,
        published_average=sum(references) / len(references) if len(references) == len(rows) else None,
        published_source=source,
        pixels=how.pixels,
    )


def html_page(result: SuiteResult) -> str:
    """Returns the page; all texts of the result are escaped."""
    return filled_page(__package__ or "", result=result)


@dataclass(frozen=True)
class _Run:
    embedder: Embedder
    how: Reading
    progress: Progress


_Measured = tuple[int, Interval, tuple[str, ...]]
"""Number of examples, their figure, and the images that were left out, with the reason."""


def _row(task: SuiteTask, folder: Path, run: _Run, known: float | None) -> Row:
    row = Row(
        key=task.key, name=task.name, metric=task.metric, status="not run", expected=task.examples, published=known
    )
    if not folder.is_dir():
        return row.model_copy(update={"reason": f"no folder {folder.name}"})
    measure = {"classification": _classification, "retrieval": _retrieval, "winogavil": _winogavil}[task.kind]
    try:
        examples, figure, skipped = measure(task, folder, run)
    except DependencyMissing as error:
        return row.model_copy(update={"reason": error.line})
    except (InvalidInput, UsageError) as error:
        return row.model_copy(update={"status": "failed", "reason": error.line})
    difference = None
    if known is not None:
        difference = Interval(value=figure.value - known, low=figure.low - known, high=figure.high - known)
    measured = {"status": "measured", "examples": examples, "figure": figure, "skipped": skipped}
    return row.model_copy(update=measured | {"difference": difference})


def _classification(task: SuiteTask, folder: Path, run: _Run) -> _Measured:
    samples = read_samples(folder)
    embedded, tally = embed_dataset_images(run.embedder, samples.images, samples.rows, run.how, run.progress)
    usable = np.array([number for number in range(len(samples.rows)) if number not in tally.bad])
    classes = embed_classes(run.embedder, samples.classes, samples.templates, run.how.cache)
    labels = samples.labels[usable]
    ranks, nearest = classify(unit(embedded), classes, labels)
    groups = None if samples.groups is None else samples.groups[usable]
    if groups is None and task.metric in ("acc_worst_region", "acc_wg", "acc_top5_wg"):
        raise InvalidInput(f"{folder}: no sample has an .npy with its group, which {task.metric} needs")
    figure = figures.percent(_metered(task, labels, ranks, nearest, groups), len(usable))
    return len(usable), figure, tally.skipped


def _metered(
    task: SuiteTask,
    labels: npt.NDArray[np.int64],
    ranks: npt.NDArray[np.int64],
    nearest: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64] | None,
) -> figures.Metered:
    if task.metric == "mean_per_class_recall":
        return figures.mean_per_class_recall(labels, nearest == labels)
    if task.metric == "F1-macro_all":
        return figures.macro_f1(labels, nearest)
    if groups is not None and task.metric == "acc_top5_wg":
        return figures.worst_group(groups, ranks < 5)
    if groups is not None and task.metric in ("acc_worst_region", "acc_wg"):
        return figures.worst_group(groups, nearest == labels)
    return figures.accuracy(nearest == labels)


def _retrieval(task: SuiteTask, folder: Path, run: _Run) -> _Measured:
    images: list[Floats] = []
    captions: list[str] = []
    owners: list[int] = []
    for batch in _batches(read_captioned(folder)):
        run.progress(f"{task.name}, image {sum(map(len, images))} of {task.examples}")
        for number, row in enumerate(batch, start=sum(map(len, images))):
            captions += row.captions
            owners += [number] * len(row.captions)
        images.append(embed_contents(run.embedder, [(row.where, row.image) for row in batch], run.how))
    if not captions:
        raise InvalidInput(f"{folder}: its tables have no rows")
    pictures = unit(np.concatenate(images))
    texts = embed_prompts(run.embedder, captions, run.how.cache)
    whose = np.array(owners)
    to_text, to_image = retrieval_ranks(pictures, texts, whose)
    metered = figures.mean_recall(to_text < 1, to_image < 1, whose)
    return len(pictures), figures.percent(metered, len(pictures)), ()


def _winogavil(task: SuiteTask, folder: Path, run: _Run) -> _Measured:
    scores: list[float] = []
    sizes: list[int] = []
    for batch in _batches(read_puzzles(folder)):
        run.progress(f"{task.name}, puzzle {len(scores)} of {task.examples}")
        cues = embed_prompts(run.embedder, [_prompt(puzzle.cue) for puzzle in batch], run.how.cache)
        listed = [(puzzle.where, image) for puzzle in batch for image in puzzle.images]
        pictures = unit(embed_contents(run.embedder, listed, run.how))
        starts = np.cumsum([len(puzzle.images) for puzzle in batch])[:-1]
        for puzzle, cue, candidates in zip(batch, cues, np.split(pictures, starts), strict=True):
            scores.append(figures.jaccard(candidates @ cue, np.array(puzzle.right)))
            sizes.append(len(puzzle.images))
    many = np.array(sizes) >= MANY
    if not many.any():
        raise InvalidInput(f"{folder}: no puzzle has at least {MANY} candidates, which the metric needs")
    return len(scores), figures.percent(figures.mean_over(np.array(scores), many), len(scores)), ()


def _prompt(cue: str) -> str:
    """Returns the prompt of mlfoundations/datacomp, eval_utils/wino_eval.py."""
    lower = cue.lower()
    return f"An {lower}" if lower[0] in "aeiou" else f"A {lower}"


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(rows)
    return iter(lambda: list(islice(iterator, BATCH)), [])
