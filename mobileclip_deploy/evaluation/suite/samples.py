"""A dataset of classification as DataComp's tool downloads it: shards with `cls`, and groups in an `npy` member."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.image_sources import ArchiveImage, ImageSource
from mobileclip_deploy.evaluation.text_files import BadRows, read_lines, read_templates
from mobileclip_deploy.evaluation.webdataset import IMAGES, NOTE_BYTES, shards_of
from mobileclip_deploy.files.tars import first_bytes, is_plain, members

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
        for key, (image, label, group) in _members(shard).items():
            where = f"{shard}/{key}"
            if image is None or label is None:
                raise InvalidInput(f"{where}: no {'image' if image is None else '.cls'} in the sample")
            images.append(image)
            rows.append(where)
            labels.append(_label(label, len(classes), where))
            if group is not None:
                groups.append(_first(group, where))
    if not rows:
        raise InvalidInput(f"{folder / 'test'}: no sample in its shards")
    if groups and len(groups) != len(rows):
        raise InvalidInput(f"{folder / 'test'}: {len(rows) - len(groups)} samples have no .npy, although others have")
    numbers = np.array(groups, np.int64) if groups else None
    return Samples(tuple(images), tuple(rows), np.array(labels, np.int64), numbers, classes, templates)


_Parts = tuple[ArchiveImage | None, bytes | None, bytes | None]


def _members(shard: Path) -> dict[str, _Parts]:
    found: dict[str, _Parts] = {}
    for archive, member in members(shard):
        if not is_plain(member):
            raise InvalidInput(f"{shard}/{member.name}: a link or a special file instead of a file")
        suffix = Path(member.name).suffix
        key = member.name.removesuffix(suffix)
        image, label, group = found.get(key, (None, None, None))
        if suffix.lower() in IMAGES:
            image = ArchiveImage(shard, member.name, member.offset_data, member.size)
        elif suffix in (".cls", ".npy"):
            note = first_bytes(archive, member, NOTE_BYTES)
            label, group = (note, group) if suffix == ".cls" else (label, note)
        else:
            continue
        found[key] = image, label, group
    return found


def _label(content: bytes, classes: int, where: str) -> int:
    text = content.strip()
    if not text.isdigit() or len(text) > 9 or int(text) >= classes:
        raise InvalidInput(f"{where}.cls: {text[:40]!r} is no number of one of {classes} classes")
    return int(text)


def _first(content: bytes, where: str) -> int:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        # Before numpy reserves what the header claims.
        if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError(f"{dtype} {list(shape)}")
        stream.seek(0)
        value = float(np.load(stream, allow_pickle=False).reshape(-1)[0])
        if not 0 <= value < 1 << 20 or value != int(value):
            raise ValueError(f"{value}")
    except (ValueError, EOFError, IndexError, SyntaxError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InvalidInput(f"{where}.npy: no array of numbers that begins with a group ({reason})") from error
    return int(value)
