"""Making a reinforced dataset: shard after shard, each recorded when complete, so that a stop loses one at most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.files import file_sha256, write_whole
from mobileclip_deploy.learning.reinforcement.augmentation import PARAMETERS, AugmentationPolicy, draw
from mobileclip_deploy.learning.reinforcement.index import (
    INDEX,
    OURS,
    PAIRS,
    Index,
    ShardEntry,
    read_index,
    text_sha256,
)
from mobileclip_deploy.learning.reinforcement.pairs import Pair, Pairs
from mobileclip_deploy.learning.reinforcement.shards import SHARDS, Shard, read_shard, write_shard
from mobileclip_deploy.learning.reinforcement.teachers import Teacher
from mobileclip_deploy.model.preprocessing import load_image
from mobileclip_deploy.progress import Progress, silent

__all__ = ["SAFETENSORS", "Existing", "Form", "Making", "Reinforced", "ReinforcementSettings", "reinforce"]

Existing = Literal["continue", "replace", "discard"]
"""What becomes of a dataset that stands in the folder: go on with it and refuse one of other pairs, teachers or
settings; go on with it and replace such a one; or begin anew."""

TARS = f"{'[0-9]' * 8}.tar"
LEFT_BY_IT = (PAIRS, f".{PAIRS}.", f".{INDEX}.")


@dataclass(frozen=True)
class Making:
    """Pairs that become one shard, the first of them number `first`; `folder` is what their images are relative to."""

    rows: Sequence[Pair]
    first: int
    folder: Path
    teachers: Sequence[Teacher]


@dataclass(frozen=True)
class Form:
    """How shards are stored: the `format` and `dtype` that the index names, how one is written (made of what, for which
    index, into which folder), and how the SHA-256 of its image files are read."""

    format: Literal["mobileclip-deploy/reinforced", "mobileclip-deploy/datacompdr"]
    dtype: Literal["bfloat16", "float32"]
    write: Callable[[Making, Index, Path], ShardEntry]
    digests: Callable[[Path, Index, ShardEntry], list[str]]


def _write(making: Making, index: Index, folder: Path) -> ShardEntry:
    return write_shard(folder, making.first, _embed(making, index))


def _digests(folder: Path, index: Index, entry: ShardEntry) -> list[str]:
    return [bytes(one).hex() for one in read_shard(folder, index, entry).image_sha256.numpy()]


SAFETENSORS = Form(OURS, "bfloat16", _write, _digests)
"""The toolkit's own form."""


@dataclass(frozen=True)
class ReinforcementSettings:
    """How many `augmentations` of each image, how far they go (`policy`), the `seed` that they are drawn by (each
    image's depend on it and on the image's number alone), how many pairs stand in a file, and in which form."""

    augmentations: int = 4
    policy: AugmentationPolicy = field(default_factory=AugmentationPolicy)
    seed: int = 0
    shard_rows: int = 256
    form: Form = SAFETENSORS


@dataclass(frozen=True)
class Reinforced:
    """A complete dataset in `folder`; `made` and `kept` count shards that were written now, or found intact."""

    folder: Path
    index: Index
    captioned: bool
    made: int
    kept: int


def reinforce(
    pairs: Pairs,
    teachers: Sequence[Teacher],
    folder: Path,
    settings: ReinforcementSettings = ReinforcementSettings(),
    progress: Progress = silent,
    existing: Existing = "continue",
) -> Reinforced:
    """Store the teachers' embeddings of pairs; what an earlier run with the same arguments stored is kept, as far as
    the pictures have the contents that they had then.

    The result depends on the arguments alone, not on where earlier runs were stopped.

    Args:
        pairs: images, with or without captions.
        teachers: at least one.
        folder: created when missing. One that holds something else is refused.
        progress: told which shard comes next.
        existing: see `Existing`.

    Raises:
        UsageError: the folder holds a dataset of other pairs, teachers or settings that is not to be replaced, or
            other files.
        InvalidInput: an image is missing or cannot be read; shards that are complete stay.
    """
    if not teachers or settings.augmentations < 1 or settings.shard_rows < 1:
        raise UsageError("a reinforced dataset needs a teacher, an augmentation and a pair in a shard at least")
    lines, form = pairs.as_lines(), settings.form
    ours = form.format == OURS
    wanted = Index(
        format=form.format,
        dtype=form.dtype,
        images=str(pairs.folder.resolve()),
        rows=len(pairs.rows),
        pairs_sha256=text_sha256(lines),
        augmentations=settings.augmentations,
        parameters=PARAMETERS if ours else (),
        policy=settings.policy if ours else None,
        seed=settings.seed,
        shard_rows=settings.shard_rows,
        teachers=tuple(teacher.entry for teacher in teachers),
    )
    found = _begun(folder, wanted, lines, existing)
    progress("looking at what is stored")
    kept = {entry.first: entry for entry in found.shards if _holds(folder, found, entry, pairs, form)}
    index = found.model_copy(update={"images": wanted.images, "shards": tuple(kept.values())})
    starts = range(0, len(pairs.rows), settings.shard_rows)
    for number, first in enumerate(starts):
        if first in kept:
            continue
        progress(f"shard {number + 1} of {len(starts)}")
        rows = pairs.rows[first : first + settings.shard_rows]
        entry = form.write(Making(rows, first, pairs.folder, teachers), index, folder)
        shards = sorted((*index.shards, entry), key=lambda one: one.first)
        index = index.model_copy(update={"shards": tuple(shards)})
        index.write(folder)
    if len(kept) == len(starts) and index != found:
        index.write(folder)  # the same pictures, in another place
    return Reinforced(folder, index, pairs.captioned, made=len(starts) - len(kept), kept=len(kept))


def _begun(folder: Path, wanted: Index, lines: str, existing: Existing) -> Index:
    """The index as far as it was made, or a new one."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with `output`")
    if (folder / INDEX).is_file():
        found = read_index(folder)
        differ = wanted.differences(found)
        if not differ and existing != "discard":
            return found
        if existing == "continue" and found.shards:  # without a shard it holds nothing that could be lost
            raise UsageError(
                f"{folder} holds a dataset with other {', '.join(differ)}; choose another folder, replace it with "
                "`force=True`, or give what it was made with"
            )
        for shard in (*folder.glob(SHARDS), *folder.glob(TARS)):
            shard.unlink()
    # What a run leaves that is stopped before its first index is there counts as nothing.
    elif folder.is_dir() and any(not path.name.startswith(LEFT_BY_IT) for path in folder.iterdir()):
        raise UsageError(f"{folder} exists and is no reinforced dataset; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PAIRS, lines)
    wanted.write(folder)
    return wanted


def _holds(folder: Path, index: Index, entry: ShardEntry, pairs: Pairs, form: Form) -> bool:
    """Whether a shard is whole, and of the pictures as they are now: names and captions alone do not tell."""
    rows = pairs.rows[entry.first : entry.first + entry.rows]
    try:
        return form.digests(folder, index, entry) == [file_sha256(pairs.folder / row.image) for row in rows]
    except (InvalidInput, OSError):
        return False  # and is made again, or refused with the picture's name


def _embed(making: Making, index: Index) -> Shard:
    images, digests, parameters = [], [], []
    policy, rows, teachers = index.policy or AugmentationPolicy(), making.rows, making.teachers
    for number, row in enumerate(rows, start=making.first):
        image, digest = read_image(making.folder / row.image)
        chance = np.random.default_rng((index.seed, number))
        parameters.append(draw(policy, index.augmentations, image.width, image.height, chance))
        images.append(image)
        digests.append(np.frombuffer(digest, np.uint8))
    drawn = torch.from_numpy(np.stack(parameters))
    texts = [text for row in rows for text in row.texts]
    return Shard(
        parameters=drawn,
        image_sha256=torch.from_numpy(np.stack(digests)),
        captions=torch.tensor([len(row.texts) for row in rows]),
        images=tuple(teacher.images(images, drawn) for teacher in teachers),
        texts=tuple(teacher.texts(texts) for teacher in teachers),
    )


def read_image(path: Path) -> tuple[Image.Image, bytes]:
    """An image file as RGB, and its SHA-256.

    Raises:
        InvalidInput: missing or not an image.
    """
    image = load_image(path)
    return image, hashlib.sha256(path.read_bytes()).digest()
