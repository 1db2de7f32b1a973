"""Making a reinforced dataset: shard after shard, each recorded when complete, so that a stop loses one at most."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.files import write_whole
from mobileclip_deploy.learning.reinforcement.augmentation import AugmentationPolicy, draw
from mobileclip_deploy.learning.reinforcement.index import (
    INDEX,
    PAIRS,
    Index,
    read_index,
    text_sha256,
)
from mobileclip_deploy.learning.reinforcement.pairs import Pair, Pairs
from mobileclip_deploy.learning.reinforcement.shards import Shard, read_shard, write_shard
from mobileclip_deploy.learning.reinforcement.teachers import Teacher
from mobileclip_deploy.model.preprocessing import load_image
from mobileclip_deploy.progress import Progress, silent

__all__ = ["Reinforced", "ReinforcementSettings", "reinforce"]


@dataclass(frozen=True)
class ReinforcementSettings:
    """How many `augmentations` of each image, how far they go (`policy`), the `seed` that they are drawn by (each
    image's depend on it and on the image's number alone), and how many pairs stand in a file."""

    augmentations: int = 4
    policy: AugmentationPolicy = field(default_factory=AugmentationPolicy)
    seed: int = 0
    shard_rows: int = 256


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
) -> Reinforced:
    """Store the teachers' embeddings of pairs; what an earlier run with the same arguments stored is kept.

    The result depends on the arguments alone, not on where earlier runs were stopped.

    Args:
        pairs: images, with or without captions.
        teachers: at least one.
        folder: created when missing. One that holds something else is refused.
        progress: told which shard comes next.

    Raises:
        UsageError: the folder holds a dataset of other pairs, teachers or settings, or other files.
        InvalidInput: an image is missing or cannot be read; shards that are complete stay.
    """
    if not teachers or settings.augmentations < 1 or settings.shard_rows < 1:
        raise UsageError("a reinforced dataset needs a teacher, an augmentation and a pair in a shard at least")
    lines = pairs.as_lines()
    wanted = Index(
        images=str(pairs.folder.resolve()),
        rows=len(pairs.rows),
        pairs_sha256=text_sha256(lines),
        augmentations=settings.augmentations,
        policy=settings.policy,
        seed=settings.seed,
        shard_rows=settings.shard_rows,
        teachers=tuple(teacher.entry for teacher in teachers),
    )
    index = _begun(folder, wanted, lines)
    kept = {entry.first: entry for entry in index.shards if _intact(folder, index, entry.first)}
    index = index.model_copy(update={"shards": tuple(kept.values())})
    starts = range(0, len(pairs.rows), settings.shard_rows)
    for number, first in enumerate(starts):
        if first in kept:
            continue
        progress(f"shard {number + 1} of {len(starts)}")
        rows = pairs.rows[first : first + settings.shard_rows]
        entry = write_shard(folder, first, _embed(rows, first, pairs.folder, teachers, index))
        shards = sorted((*index.shards, entry), key=lambda one: one.first)
        index = index.model_copy(update={"shards": tuple(shards)})
        index.write(folder)
    return Reinforced(folder, index, pairs.captioned, made=len(starts) - len(kept), kept=len(kept))


def _begun(folder: Path, wanted: Index, lines: str) -> Index:
    """The index as far as it was made, or a new one."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with -o")
    if (folder / INDEX).is_file():
        found = read_index(folder)
        differ = [name for name, value in wanted.request().items() if found.request()[name] != value]
        if differ:
            raise UsageError(
                f"{folder} holds a dataset with other {', '.join(differ)}; choose another output with -o, or give "
                "what it was made with"
            )
        return found.model_copy(update={"images": wanted.images})
    # What a run leaves that is stopped before its first index is there counts as nothing.
    left_by_it = (PAIRS, f".{PAIRS}.", f".{INDEX}.")
    if folder.is_dir() and any(not path.name.startswith(left_by_it) for path in folder.iterdir()):
        raise UsageError(f"{folder} exists and is no reinforced dataset; choose another output with -o")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PAIRS, lines)
    wanted.write(folder)
    return wanted


def _intact(folder: Path, index: Index, first: int) -> bool:
    entry = next(entry for entry in index.shards if entry.first == first)
    try:
        read_shard(folder, index, entry)
    except InvalidInput:
        return False  # and is made again
    return True


def _embed(rows: Sequence[Pair], first: int, folder: Path, teachers: Sequence[Teacher], index: Index) -> Shard:
    images, digests, parameters = [], [], []
    for number, row in enumerate(rows, start=first):
        image, digest = read_image(folder / row.image)
        chance = np.random.default_rng((index.seed, number))
        parameters.append(draw(index.policy, index.augmentations, image.width, image.height, chance))
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
