"""A dataset of classification as DataComp's tool downloads it: shards with `cls`, and groups in an `npy` member."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, Malformed, worded
from mobileclip_deploy.evaluation.image_sources import ImageSource
from mobileclip_deploy.evaluation.text_files import BadRows, read_lines, read_templates
from mobileclip_deploy.evaluation.webdataset import shard_samples, shards_of
from mobileclip_deploy.files.arrays import plain_array

__all__ = ["Samples", "read_samples"]


@dataclass(frozen=True)
class Samples:
    """Images, where each stands, and its class, a number of `classes` (names may be equal); `groups` [N] are the first
    number of each sample's metadata, where it has any."""

    images: tuple[ImageSource, ...]
    rows: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    templates: tuple[str, ...]


def read_samples(folder: Path) -> Samples:
    """All samples of the split `test`, in the order of its shards.

    Raises:
        InvalidInput: the folder is incomplete, a shard is damaged, or a label or a group is none.
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
        raise InvalidInput(f"{where}.cls: {text[:40]!r} is no number of one of {classes} classes")
    return int(text)


def _first(content: bytes, where: str) -> int:
    try:
        value = float(plain_array(content, "iuf").reshape(-1)[0])
        if not 0 <= value < 1 << 20 or value != int(value):
            raise Malformed(f"{value}")
    except (ValueError, IndexError) as error:
        raise InvalidInput(f"{where}.npy: no array of numbers that begins with a group ({worded(error)})") from error
    return int(value)
