"""Reading a reinforced dataset for training: augmented images, token ids and what teachers said; no teacher runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import read_regular
from mobileclip_deploy.learning.reinforcement.index import OURS, PAIRS, Index, read_index, text_sha256
from mobileclip_deploy.learning.reinforcement.pairs import PAIRS_BYTES, Pairs, parse_pairs
from mobileclip_deploy.learning.reinforcement.samples import Choice, PairDataset
from mobileclip_deploy.learning.reinforcement.shards import read_shard
from mobileclip_deploy.model.preprocessing import load_image
from mobileclip_deploy.model.variants import Variant

__all__ = ["ReinforcedDataset"]


class ReinforcedDataset(PairDataset):
    """A complete reinforced dataset, for a student of `variant`. Every shard is read and checked when it is opened.

    Raises:
        InvalidInput: incomplete, damaged, or an image has vanished or changed.
    """

    def __init__(self, folder: Path, variant: Variant, images: Path | None = None) -> None:
        self.folder, self.index = folder, read_index(folder)
        if self.index.format != OURS:
            raise InvalidInput(f"{folder} holds shards in DataCompDR's form, which `train` reads and nothing else does")
        self.index.require_complete(folder)
        super().__init__(_pairs(folder, self.index, images), variant, self.index.augmentations, self.index.teachers)
        shards = [read_shard(folder, self.index, entry) for entry in self.index.shards]
        teachers = range(len(self.teachers))
        self.parameters = torch.cat([shard.parameters for shard in shards])
        self.image_sha256 = torch.cat([shard.image_sha256 for shard in shards])
        self.images = tuple(torch.cat([shard.images[number] for shard in shards]) for number in teachers)
        self.texts = tuple(torch.cat([shard.texts[number] for shard in shards]) for number in teachers)
        if not torch.equal(torch.cat([shard.captions for shard in shards]), self.captions):
            raise InvalidInput(f"{folder}: {PAIRS} has other captions than the shards; make the dataset again")
        self._seen: set[int] = set()

    def read(self, choice: Choice) -> tuple[Image.Image, Tensor]:
        path = self.pairs.folder / self.pairs.rows[choice.row].image
        image = load_image(path)
        if choice.row not in self._seen:  # the stored embeddings are of the image as it was
            if hashlib.sha256(path.read_bytes()).digest() != self.image_sha256[choice.row].numpy().tobytes():
                raise InvalidInput(f"{path} is another image than the one that was embedded; reinforce again")
            self._seen.add(choice.row)
        return image, self.parameters[choice.row, choice.augmentation]

    def said(self, choice: Choice, captions: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (
            tuple(stored[choice.row, choice.augmentation] for stored in self.images),
            tuple(stored[captions] for stored in self.texts),
        )


def _pairs(folder: Path, index: Index, images: Path | None) -> Pairs:
    file = folder / PAIRS
    try:
        text = read_regular(file, PAIRS_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    if text_sha256(text) != index.pairs_sha256:
        raise InvalidInput(f"{file} is damaged (its checksum is not the index's); make the dataset again")
    return parse_pairs(text, images or Path(index.images), str(file))
