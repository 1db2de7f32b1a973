"""Reinforced shards and the shards of their images, joined by the shard's name and the sample's key."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.tars import Extent, read_extent, scan
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.training.datacompdr.members import IMAGE_SUFFIXES, LIMIT

PARTS = ("image", "text", "synthetic", "parameters", "embeddings")
ENDINGS = {"text": ("txt",), "synthetic": ("syn.json",), "parameters": ("paug.json",), "embeddings": ("npz", "pth.gz")}
ABSENT = -1


class SamplePositions(NamedTuple):
    """Positions of samples, as arrays and not objects: DataCompDR-12M then takes about a gigabyte, which loading
    processes share. `file`: index of each sample's reinforced shard [N]. `places`: offset and size of each of PARTS [N,
    5, 2] (offset -1: it is absent). `apart`: whether image and text are in the shard of images [N, 2]. `kind`: index of
    the embeddings' ending [N]."""

    file: npt.NDArray[np.int32]
    places: npt.NDArray[np.int64]
    apart: npt.NDArray[np.bool_]
    kind: npt.NDArray[np.int8]


@dataclass
class Joined:
    """Samples that have an image, a true caption, augmentations and embeddings; and counts of those left out."""

    shards: tuple[Path, ...]
    images: tuple[Path | None, ...]
    rows: SamplePositions
    without_image: int = 0
    without_text: int = 0
    bad: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows.file)

    def where(self, row: int, part: str) -> tuple[Path, Extent] | None:
        """Returns the tar and the extent of a part of a sample. None if it has no such part."""
        index = PARTS.index(part)
        offset, size = self.rows.places[row, index].tolist()
        if offset == ABSENT:
            return None
        shard = self.rows.file[row]
        other = self.images[shard] if index < 2 and self.rows.apart[row, index] else None
        return other or self.shards[shard], Extent(offset, size)

    def ending(self, row: int) -> str:
        """Returns the ending of the name of the embeddings' member."""
        return ENDINGS["embeddings"][self.rows.kind[row]]


def shard_files(folder: Path) -> list[Path]:
    """Returns all tars below a folder, sorted."""
    return sorted(folder.rglob("*.tar"))


def join(folder: Path, images: Path | None, skip_bad: bool = False, progress: Progress = silent) -> Joined:
    """Scans all shards of a folder, and the shards of the same names in another folder for their images.

    Samples without an image or without a true caption are counted and left out.

    Args:
        images: a folder of shards; None if the images are in the reinforced shards.
        skip_bad: leave out unreadable shards, and samples without augmentations or embeddings.
        progress: called with a line before each shard.

    Raises:
        InvalidInput: no shards, one that cannot be read, a sample without augmentations or embeddings, or no sample is
            left.
    """
    shards = shard_files(folder)
    if not shards:
        raise InvalidInput(f"{folder} has no shards (*.tar)")
    others = _others(folder, shards, images)
    bad: list[str] = []
    parts: list[SamplePositions] = []
    counts = {"image": 0, "text": 0}
    for index, (shard, other) in enumerate(zip(shards, others, strict=True)):
        progress(f"reading shard {index + 1} of {len(shards)}")
        try:
            parts.append(_samples(index, shard, other, counts, bad if skip_bad else None))
        except InvalidInput as error:
            if not skip_bad:
                raise
            bad.append(error.line)
    if not any(len(part.file) for part in parts):
        without = ", ".join(f"{count:,} without {part}" for part, count in counts.items() if count)
        advice = "" if images else "; its images are missing: name the folder of their shards with `images`"
        raise InvalidInput(f"{folder} has no sample that can be trained on ({without or 'no samples'}){advice}")
    return Joined(
        shards=tuple(shards),
        images=tuple(others),
        rows=SamplePositions(*map(np.concatenate, zip(*parts, strict=True))),
        without_image=counts["image"],
        without_text=counts["text"],
        bad=bad,
    )


def _others(folder: Path, shards: list[Path], images: Path | None) -> list[Path | None]:
    if images is None:
        return [None] * len(shards)
    if not images.is_dir():
        raise InvalidInput(f"no folder of shards at {images}; give the one with the images")
    by_path = {file.relative_to(images).with_suffix(""): file for file in shard_files(images)}
    if not by_path:
        raise InvalidInput(f"{images} has no shards (*.tar)")
    by_stem = {file.stem: file for file in by_path.values()}
    if len(by_stem) < len(by_path):  # numbers begin at 0 in each subfolder: the name alone is ambiguous
        by_stem = {}
    return [by_path.get(shard.relative_to(folder).with_suffix(""), by_stem.get(shard.stem)) for shard in shards]


def _samples(
    number: int, shard: Path, other: Path | None, counts: dict[str, int], bad: list[str] | None
) -> SamplePositions:
    inside = scan(shard)
    outside = _by_uid(other, scan(other), inside) if other is not None else {}
    positions: list[list[tuple[int, int]]] = []
    apart: list[tuple[bool, bool]] = []
    kinds: list[int] = []
    for key, parts in inside.items():
        outer = outside.get(key, {})
        image, image_apart = _found(parts, outer, IMAGE_SUFFIXES)
        text, text_apart = _found(parts, outer, ENDINGS["text"])
        if image is None:
            counts["image"] += 1
            continue
        if text is None:
            counts["text"] += 1
            continue
        kind = next((index for index, ending in enumerate(ENDINGS["embeddings"]) if ending in parts), ABSENT)
        if kind == ABSENT or "paug.json" not in parts:
            lack = "paug.json" if kind != ABSENT else "npz or pth.gz"
            line = f"{shard}: {key} has no {lack}: the sample is not reinforced"
            if bad is None:
                raise InvalidInput(f"{line}; leave such samples out with `skip_bad: true` in the recipe")
            bad.append(line)
            continue
        rest = (parts.get("syn.json"), parts["paug.json"], parts[ENDINGS["embeddings"][kind]])
        positions.append(
            [(ABSENT, 0) if extent is None else (extent.offset, extent.size) for extent in (image, text, *rest)]
        )
        apart.append((image_apart, text_apart))
        kinds.append(kind)
    return SamplePositions(
        np.full(len(kinds), number, np.int32),
        np.array(positions, np.int64).reshape(-1, len(PARTS), 2),
        np.array(apart, np.bool_).reshape(-1, 2),
        np.array(kinds, np.int8),
    )


def _found(parts: dict[str, Extent], beside: dict[str, Extent], endings: tuple[str, ...]) -> tuple[Extent | None, bool]:
    """Returns the first existing member of these endings, and whether it is in the other shard. Empty files do not
    count."""
    for apart, listed in ((False, parts), (True, beside)):
        for ending in endings:
            if ending in listed and listed[ending].size:
                return listed[ending], apart
    return None, False


def _by_uid(
    shard: Path, samples: dict[str, dict[str, Extent]], wanted: dict[str, dict[str, Extent]]
) -> dict[str, dict[str, Extent]]:
    """Returns the samples of a shard of images by uid. Their keys are uids; img2dataset numbers them and puts the uid
    into each sample's json."""
    if not samples or samples.keys() & wanted.keys():
        return samples
    named = {}
    for parts in samples.values():
        if "json" in parts:
            with contextlib.suppress(ValueError, RecursionError):
                metadata = json.loads(read_extent(shard, parts["json"], LIMIT))
                if isinstance(metadata, dict):
                    named[str(metadata.get("uid"))] = parts
    return named
