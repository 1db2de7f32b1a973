"""Readers of datasets as DataComp's tool downloads them.

Classification datasets are shards with `cls`, and groups in an `npy` member. Retrieval datasets and WinoGAViL are
parquet files that contain their images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import plain_array
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, reraising
from mobileclip_deploy.evaluation.tables import read_parquet
from mobileclip_deploy.evaluation.templates import read_templates
from mobileclip_deploy.evaluation.webdataset import shard_samples, shards_of
from mobileclip_deploy.pictures.image_sources import ImageSource
from mobileclip_deploy.pictures.text_files import BadRows, read_lines


@dataclass(frozen=True)
class Samples:
    """Images of a classification dataset.

    Attributes:
        rows: location of each image, for messages.
        labels: class of each image [N], as an index of `classes`, whose names may be equal.
        groups: first element of each sample's metadata [N]; None if samples have no metadata.
    """

    images: tuple[ImageSource, ...]
    rows: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    templates: tuple[str, ...]


def read_samples(folder: Path) -> Samples:
    """Reads all samples of the split `test`, in the order of its shards.

    Raises:
        InvalidInput: the folder is incomplete, a shard is damaged, or a label or a group is not valid.
    """
    classes = tuple(line for _, line in read_lines(folder / "classnames.txt", BadRows(skip=False)))
    templates = read_templates(folder / "zeroshot_classification_templates.txt")
    images: list[ImageSource] = []
    rows, labels, groups = [], [], []
    for shard in shards_of(folder, "test"):
        for sample in shard_samples(shard, (".cls", ".npy"), BadRows(skip=False)):
            if lacking := sample.lacks(".cls"):
                raise InvalidInput(lacking)
            assert sample.image is not None
            images.append(sample.image)
            rows.append(sample.where)
            labels.append(_label(sample.notes[".cls"], len(classes), sample.where))
            if (group := sample.notes.get(".npy")) is not None:
                groups.append(_first(group, sample.where))
    if not rows:
        raise InvalidInput(f"{folder / 'test'}: no sample in its shards")
    if groups and len(groups) != len(rows):
        raise InvalidInput(f"{folder / 'test'}: {len(rows) - len(groups)} samples have no .npy, although others have")
    numbers = np.array(groups, np.int64) if groups else None
    return Samples(tuple(images), tuple(rows), np.array(labels, np.int64), numbers, classes, templates)


def _label(content: bytes, classes: int, where: str) -> int:
    text = content.strip()
    if not text.isdigit() or len(text) > 9 or int(text) >= classes:
        raise InvalidInput(f"{where}.cls: {text[:40]!r} is not the index of one of {classes} classes")
    return int(text)


def _first(content: bytes, where: str) -> int:
    with reraising(f"{where}.npy: not an array of numbers that begins with a group ({REASON})", ValueError, IndexError):
        value = float(plain_array(content, "iuf").reshape(-1)[0])
        if not 0 <= value < 1 << 20 or value != int(value):
            raise Malformed(f"{value}")
    return int(value)


@dataclass(frozen=True)
class Captioned:
    """An image as the bytes of a file, and its captions."""

    where: str
    image: bytes
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Puzzle:
    """A cue, and candidates as the bytes of image files; `right` marks the candidates that belong to the cue."""

    where: str
    cue: str
    images: tuple[bytes, ...]
    right: tuple[bool, ...]


def read_captioned(folder: Path) -> Iterator[Captioned]:
    """Yields images with captions from the columns `image` and `caption` (a text, or a list of them).

    Raises:
        DependencyMissing: pyarrow is not installed.
        InvalidInput: there is no such table, or a row is not valid.
    """
    for where, row in _rows(folder, ("image", "caption")):
        captions = row["caption"] if isinstance(row["caption"], list) else [row["caption"]]
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise InvalidInput(f"{where}: caption is neither a text nor a list of texts")
        yield Captioned(where, _image(row["image"], where), tuple(captions))


def read_puzzles(folder: Path) -> Iterator[Puzzle]:
    """Yields puzzles from the columns `cue`, `candidates`, `associations` (names of candidates) and `candidate_images`.

    Raises:
        DependencyMissing, InvalidInput: as `read_captioned`.
    """
    for where, row in _rows(folder, ("cue", "candidates", "associations", "candidate_images")):
        names, associated, images = row["candidates"], row["associations"], row["candidate_images"]
        if not all(isinstance(column, list) for column in (names, associated, images)) or len(names) != len(images):
            raise InvalidInput(f"{where}: candidates, associations and candidate_images are not matching lists")
        right = tuple(name in associated for name in names)
        if not isinstance(row["cue"], str) or not row["cue"] or not any(right):
            raise InvalidInput(f"{where}: no cue, or no candidate belongs to it")
        yield Puzzle(where, row["cue"], tuple(_image(image, where) for image in images), right)


def _image(value: Any, where: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes) or not content:
        raise InvalidInput(f"{where}: the table has no bytes of its image")
    return content


def _rows(folder: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise InvalidInput(f"{folder} has no table (*.parquet)")

    def chosen(file: Path, names: list[str]) -> list[str]:
        if missing := [name for name in columns if name not in names]:
            raise InvalidInput(f"{file} has no column {missing[0]}; it has {', '.join(names)}")
        return list(columns)

    for file in files:
        for number, row in enumerate(read_parquet(file, chosen)):
            yield f"{file}:{number}", row
