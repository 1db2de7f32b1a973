"""Pictures to learn labels from: examples of each label, and a background that no label fits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.heads.label_head import NONE, digest_rows
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.base.files.arrays import Bytes
from mobileclip_deploy.errors import InvalidInput, UsageError, listed
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.minimum_samples import LEAST_BACKGROUND, check_background
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.pictures.image_sources import ImageSource, read_image
from mobileclip_deploy.spaces.tags.rows import LEAST_PICTURES, Indices

LARGEST = 50_000_000
"""Most labels times pictures: their odds take 400 MB."""
SHOWN = 3


@dataclass(frozen=True)
class TagsRequest:
    """Request to learn labels from pictures.

    Attributes:
        examples: a dataset with classes, such as a folder for each label.
        background: a folder of pictures that no label fits; None to use names, or the other labels' examples.
        false_tags: target share of pictures without a label that get one.
        with_texts: start from the labels' texts.

    Raises:
        UsageError: the share is not between 0 and 1.
    """

    examples: Path
    background: Path | None = None
    false_tags: float = 0.05
    with_texts: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.false_tags < 1:
            raise UsageError(f"`false_tags` {self.false_tags:g}: give a share between 0 and 1, such as 0.05")


@dataclass(frozen=True)
class ExampleSet:
    """Files to learn labels from, each picture once; nothing is embedded yet.

    Attributes:
        labels: names and template.
        images: examples; `image_labels`: the index of each one's label.
        background: pictures that no label fits.
        digests: of the contents of all pictures, see `LabelHead`.
        notes: sentences for the user.
    """

    request: TagsRequest
    labels: LabelSet
    images: tuple[ImageSource, ...]
    image_labels: Indices
    background: tuple[Path, ...]
    digests: Bytes
    notes: tuple[str, ...]


def folder_labels(examples: Path) -> LabelSet:
    """Returns the classes of a dataset as labels, for labels without texts.

    Raises:
        InvalidInput, UsageError: the dataset cannot be read, or has no two classes.
    """
    return LabelSet(_classified(examples).classes)


def read_examples(request: TagsRequest, labels: LabelSet) -> ExampleSet:
    """Reads and checks the pictures to learn labels from.

    Raises:
        InvalidInput: a picture cannot be read or is an example of two labels, a class is not a label, a label without a
            text has too few pictures, or there are too many labels and pictures.
        UsageError: a label is called "none of these".
    """
    if any(name.casefold() == NONE for name in labels.names):
        raise UsageError(f"the label {NONE!r} is added by itself; leave it out")
    data = _classified(request.examples)
    place = _places(data, labels, request.examples)
    first: dict[str, int] = {}
    repeated = 0
    for index, image in enumerate(data.images):
        digest = content_sha256(read_image(image))
        before = first.setdefault(digest, index)
        if place[data.labels[before]] != place[data.labels[index]]:
            names = (repr(data.classes[data.labels[row]]) for row in (before, index))
            raise InvalidInput(
                f"{image} is the same picture as {data.images[before]}, an example of {' and '.join(names)}; keep it "
                "in one of them"
            )
        repeated += before != index
    background, digests, notes = _background(request.background, set(first))
    if repeated:
        notes.append(f"{request.examples}: {repeated} pictures repeat others; each counts once.")
    rows = sorted(first.values())
    chosen = np.array([place[data.labels[row]] for row in rows])
    if len(labels.names) * (2 * len(rows) + len(background)) > LARGEST:
        raise InvalidInput(
            f"{len(labels.names):,} labels and {len(rows) + len(background):,} pictures are too many to learn from "
            f"(at most {LARGEST:,} odds of them); give fewer pictures"
        )
    notes += _few(labels.names, chosen, request)
    if not len(background):
        notes.append('"None of these" was learned without pictures of other things; `background` makes it better.')
    images = tuple(data.images[row] for row in rows)
    return ExampleSet(request, labels, images, chosen, background, digest_rows([*first, *digests]), tuple(notes))


def _classified(examples: Path) -> Dataset:
    if not examples.exists():
        raise UsageError(f"`examples` {examples}: no such folder or file; give a folder with one folder per label")
    data = read_dataset(examples)
    if not data.labels:
        raise InvalidInput(f"`examples` {examples} has no classes; put the pictures in a folder per label")
    return data


def _places(data: Dataset, labels: LabelSet, examples: Path) -> list[int]:
    """Returns the index of the label of each class."""
    places = {name.casefold(): index for index, name in enumerate(labels.names)}
    unknown = [name for name in data.classes if name.casefold() not in places]
    if unknown:
        raise InvalidInput(
            f"`examples` {examples} has classes that are not labels: {listed(unknown, SHOWN)}; add them to `labels`, "
            "or leave `labels` out to learn from pictures alone"
        )
    return [places[name.casefold()] for name in data.classes]


def _few(names: Sequence[str], chosen: Indices, request: TagsRequest) -> list[str]:
    """Returns notes on labels with too few pictures.

    Raises:
        InvalidInput: one of them has no text either, or no label has enough.
    """
    counts = Counter(chosen.tolist())
    few = [name for index, name in enumerate(names) if counts[index] < LEAST_PICTURES]
    if not few:
        return []
    names_of_few = listed(few, SHOWN)
    if not request.with_texts or len(few) == len(names):
        raise InvalidInput(
            f"`examples` {request.examples} has fewer than {LEAST_PICTURES} different pictures of {names_of_few}; "
            "give more"
        )
    return [f"Fewer than {LEAST_PICTURES} different pictures, so their texts alone count: {names_of_few}."]


def _background(folder: Path | None, examples: set[str]) -> tuple[tuple[Path, ...], list[str], list[str]]:
    """Returns the background's different pictures without the examples, their hashes, and notes."""
    if folder is None:
        return (), [], []
    files = image_files(folder) if folder.is_dir() else []
    check_background(folder, files)
    different = {content_sha256(read_image(file)): file for file in reversed(files)}
    both = different.keys() & examples
    remaining = sorted((file, digest) for digest, file in different.items() if digest not in both)
    if len(remaining) < LEAST_BACKGROUND:
        raise InvalidInput(
            f"`background` {folder} holds {len(remaining)} different pictures that are not examples; "
            f"{LEAST_BACKGROUND} are needed; give more, of all kinds"
        )
    notes = [f"{folder}: {len(both)} pictures are examples, too, and were left out."] if both else []
    return tuple(file for file, _ in remaining), [digest for _, digest in remaining], notes
