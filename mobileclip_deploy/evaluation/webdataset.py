"""CLIP_benchmark's webdataset folders: tar shards per split, with class names and templates next to them.

The layout is that of CLIP_benchmark's webdataset_builder: `{split}/0.tar` and on, `{split}/nshards.txt`,
`dataset_type.txt` ("retrieval"; classification if it is missing), `classnames.txt` and
`zeroshot_classification_templates.txt` (with `{c}`). A sample is an image (.webp, .png, .jpg, .jpeg) and, with the same
key, a .cls (the index of a class) or a .txt (one caption per line).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.files.tars import Extent, is_plain, members, read_extent
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.class_names import read_class_names
from mobileclip_deploy.evaluation.dataset import Dataset, DatasetRow, assemble
from mobileclip_deploy.evaluation.templates import read_templates
from mobileclip_deploy.pictures.image_sources import ArchiveImage
from mobileclip_deploy.pictures.text_files import BadRows, read_text

IMAGES = (".webp", ".png", ".jpg", ".jpeg")
DIGITS = re.compile("[0-9]{1,9}")
NOTE_BYTES = 1 << 20


def has_shards(folder: Path, split: str) -> bool:
    """Returns whether a folder is a webdataset, of this split or another one."""
    return any(folder.glob("*/*.tar")) or (folder / split / "nshards.txt").is_file()


def read_webdataset(folder: Path, class_names: Path | None, split: str, bad: BadRows) -> Dataset:
    """Reads all samples of a split, in the order of the shards; of images only the location in the archive.

    Raises:
        InvalidInput: no such split, a shard is missing or damaged, or a bad row that is not to be skipped.
    """
    kind = read_text(folder / "dataset_type.txt").strip() if (folder / "dataset_type.txt").is_file() else ""
    if kind not in ("", "classification", "retrieval"):
        raise InvalidInput(f"{folder / 'dataset_type.txt'}: {kind!r}; known: classification, retrieval")
    rows = [row for shard in shards_of(folder, split) for row in _rows(shard, kind == "retrieval", bad)]
    if not rows:
        raise InvalidInput(f"{folder / split}: no sample in its shards")
    name = f"{folder.resolve().name} {split}"
    if kind == "retrieval":
        return assemble(name, rows, None, (), bad)
    templates = folder / "zeroshot_classification_templates.txt"
    return assemble(
        name,
        rows,
        read_class_names(class_names or folder / "classnames.txt", bad),
        read_templates(templates) if templates.is_file() else (),
        bad,
    )


def shards_of(folder: Path, split: str) -> list[Path]:
    """Returns the shards of a split, in order.

    Raises:
        InvalidInput: no such split, or one that `nshards.txt` counts is missing.
    """
    if not (folder / split).is_dir():
        splits = ", ".join(sorted({shard.parent.name for shard in folder.glob("*/*.tar")}))
        raise InvalidInput(f"{folder} has no split {split!r}; it has {splits}")
    counted = folder / split / "nshards.txt"
    if not counted.is_file():
        return sorted((folder / split).glob("*.tar"), key=lambda shard: (len(shard.name), shard.name))
    text = read_text(counted).strip()
    if not DIGITS.fullmatch(text):
        raise InvalidInput(f"{counted} holds {text[:40]!r} instead of a shard count")
    shards: list[Path] = []
    while len(shards) < int(text):
        shard = folder / split / f"{len(shards)}.tar"
        if not shard.is_file():
            raise InvalidInput(f"no shard at {shard}, although {counted} counts {text}")
        shards.append(shard)
    return shards


@dataclass(frozen=True)
class ShardSample:
    """One key of a shard: the location of its image, and the contents of the requested other members, by suffix."""

    where: str
    image: ArchiveImage | None
    notes: Mapping[str, bytes]

    def lacks(self, suffix: str) -> str | None:
        """Returns a message that names the missing image or member of this suffix. None if both exist."""
        missing = "image" if self.image is None else suffix if suffix not in self.notes else None
        return None if missing is None else f"{self.where}: no {missing} in the sample"


def shard_samples(shard: Path, suffixes: Collection[str], bad: BadRows) -> list[ShardSample]:
    """Reads the samples of a shard, in its order.

    Args:
        suffixes: suffixes of the members to read, such as ".cls", up to `NOTE_BYTES` of each.

    Raises:
        InvalidInput: no readable archive; or it has a link or a special file, and bad rows are not skipped.
    """
    images: dict[str, ArchiveImage] = {}
    notes: dict[str, dict[str, bytes]] = {}
    for member in members(shard):
        if not is_plain(member):
            bad.add(f"{shard}/{member.name}: a link or a special file instead of a file")
            continue
        suffix = Path(member.name).suffix
        key = member.name.removesuffix(suffix)
        if suffix.lower() in IMAGES:
            images[key] = ArchiveImage(shard, member.name, Extent(member.offset_data, member.size))
        elif suffix.lower() in suffixes:
            extent = Extent(member.offset_data, min(member.size, NOTE_BYTES))
            notes.setdefault(key, {})[suffix.lower()] = read_extent(shard, extent, NOTE_BYTES)
    keys = dict.fromkeys((*images, *notes))
    return [ShardSample(f"{shard}/{key}", images.get(key), notes.get(key, {})) for key in keys]


def _rows(shard: Path, retrieval: bool, bad: BadRows) -> list[DatasetRow]:
    suffix = ".txt" if retrieval else ".cls"
    rows = []
    for sample in shard_samples(shard, (suffix,), bad):
        if lacking := sample.lacks(suffix):
            bad.add(lacking)
            continue
        assert sample.image is not None
        try:
            text = sample.notes[suffix].decode("utf-8").strip()
        except UnicodeDecodeError:
            bad.add(f"{sample.where}{suffix}: not UTF-8")
            continue
        texts = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())) if retrieval else ()
        rows.append(DatasetRow(sample.where, sample.image, None if retrieval else text, texts))
    return rows
