"""Datasets on which accuracy is measured: images with class labels, with captions, or with both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.class_names import ClassNames, refuse_numbers
from mobileclip_deploy.pictures.image_sources import ImageSource
from mobileclip_deploy.pictures.text_files import BadRows


@dataclass(frozen=True)
class DatasetRow:
    """One line of a table and its location `where`, for messages. The label or the texts may be missing."""

    where: str
    image: ImageSource
    label: str | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Images with their captions for retrieval, or with one class per image for classification.

    Attributes:
        rows: location of each image, for messages.
        captions: in the order of their images; every image has at least one, or no image has any.
        caption_images: index of each caption's image.
        labels: indices into `classes`, one per image, or none.
        templates: prompts with `{}` for the class name; none if the dataset names none.
        skipped: a message for each row that was left out.
    """

    name: str
    images: tuple[ImageSource, ...]
    rows: tuple[str, ...]
    captions: tuple[str, ...] = ()
    caption_images: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that this dataset can be used for."""
        return (("classification",) if self.labels else ()) + (("retrieval",) if self.captions else ())

    def without(self, bad: dict[int, str]) -> Dataset:
        """Returns the dataset without some images.

        Args:
            bad: fault of each image to leave out, by index.
        """
        indices = [number for number in range(len(self.images)) if number not in bad]
        return self._of(indices, (*self.skipped, *(bad[i] for i in sorted(bad))))

    def sample(self, count: int) -> Dataset:
        """Returns the dataset with at most `count` of its images, evenly spaced, and their captions; every class
        stays."""
        total = len(self.images)
        return self if total <= count else self._of([n * total // count for n in range(count)], self.skipped)

    def divided(self) -> tuple[Dataset, Dataset]:
        """Returns every third image, and the others: a choice made on the first part can be confirmed on the second.

        Raises:
            InvalidInput: one image cannot be divided.
        """
        total = range(len(self.images))
        every_third, others = [n for n in total if n % 3 == 0], [n for n in total if n % 3]
        if not others:
            raise InvalidInput(f"dataset {self.name} has one image, and a choice is confirmed on others; add images")
        return self._of(every_third, self.skipped), self._of(others, self.skipped)

    def _of(self, kept: Sequence[int], skipped: tuple[str, ...]) -> Dataset:
        new_index = {old: new for new, old in enumerate(kept)}
        captions = [
            (text, new_index[i]) for text, i in zip(self.captions, self.caption_images, strict=True) if i in new_index
        ]
        return replace(
            self,
            images=tuple(self.images[i] for i in kept),
            rows=tuple(self.rows[i] for i in kept),
            captions=tuple(text for text, _ in captions),
            caption_images=tuple(i for _, i in captions),
            labels=tuple(self.labels[i] for i in kept) if self.labels else (),
            skipped=skipped,
        )


def check_tasks(dataset: Dataset, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the tasks to measure: all that the dataset can be used for if None.

    Raises:
        UsageError: the dataset cannot be used for a task.
    """
    chosen = dataset.tasks if tasks is None else tuple(tasks)
    for task in chosen:
        if task not in dataset.tasks:
            raise UsageError(f"dataset {dataset.name} cannot be used for {task}, only for {', '.join(dataset.tasks)}")
    return chosen


def assemble(
    name: str, rows: Sequence[DatasetRow], classes: ClassNames | None, templates: Sequence[str], bad: BadRows
) -> Dataset:
    """Makes a dataset from the rows of a table. Merges rows of the same image: each adds captions to it.

    Args:
        classes: the classes that the labels belong to; the labels in the rows, sorted, if None.

    Raises:
        InvalidInput: no row can be used, or one cannot and bad ones are not skipped. A bad row has an image that does
            not exist; a label that is missing, unknown or unlike the image's earlier label; no text although other rows
            have one; or it repeats another row.
    """
    labelled = classes is not None or any(row.label for row in rows)
    captioned = any(row.texts for row in rows)
    if not labelled and not captioned:
        raise InvalidInput(f"{name}: it has neither texts nor classes, so there is nothing to measure")
    if classes is None:
        names = tuple(sorted({row.label for row in rows if row.label}))
        classes = ClassNames("the labels", names, ()) if labelled else ClassNames("", (), ())
        refuse_numbers(name, classes.names)
    groups: dict[ImageSource, _Group] = {}
    for row in rows:
        problem = _problem(row, classes, groups.get(row.image), labelled, captioned)
        if problem is not None:
            bad.add(f"{row.where}: {problem}")
            continue
        group = groups.setdefault(row.image, _Group(row.where, classes.find(row.label or ""), []))
        group.texts.extend(row.texts)
    if not groups:
        raise InvalidInput(f"{name}: all of its {len(rows)} rows are unusable; the first: {bad.found[0]}")
    ordered = list(groups.values())
    return Dataset(
        name=name,
        images=tuple(groups),
        rows=tuple(group.where for group in ordered),
        captions=tuple(text for group in ordered for text in group.texts),
        caption_images=tuple(number for number, group in enumerate(ordered) for _ in group.texts),
        labels=tuple(group.label for group in ordered if group.label is not None) if labelled else (),
        classes=classes.names,
        templates=tuple(templates),
        skipped=tuple(bad.found),
    )


@dataclass
class _Group:
    where: str
    label: int | None
    texts: list[str]


def _problem(
    row: DatasetRow, classes: ClassNames, before: _Group | None, labelled: bool, captioned: bool
) -> str | None:
    if isinstance(row.image, Path) and not os.path.isfile(row.image):
        return f"no image at {row.image}"
    if labelled and not row.label:
        return "no label"
    if labelled and classes.find(row.label or "") is None:
        return f"the label {_short(row.label or '')} is not in {classes.source}"
    if captioned and not row.texts:
        return "no text, although other rows have one"
    if before is None:
        return None
    if labelled and classes.find(row.label or "") != before.label:
        return f"the image has another label at {before.where}"
    if not row.texts or set(row.texts) & set(before.texts):
        return f"the same row as {before.where}"
    return None


def _short(label: str) -> str:
    return repr(label if len(label) < 80 else f"{label[: 80 - 3]}...")
