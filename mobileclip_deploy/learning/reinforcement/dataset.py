"""Reading a reinforced dataset for training: augmented images, token ids and what teachers said; no teacher runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.learning.reinforcement.augmentation import crop, transform
from mobileclip_deploy.learning.reinforcement.index import PAIRS, Index, read_index, text_sha256
from mobileclip_deploy.learning.reinforcement.pairs import Pairs, parse_pairs
from mobileclip_deploy.learning.reinforcement.shards import read_shard
from mobileclip_deploy.model.preprocessing import load_image
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.model.variants import Variant

__all__ = ["Batch", "Choice", "ReinforcedDataset", "Sample", "collate"]


@dataclass(frozen=True)
class Choice:
    """Which augmentation of which pair, and which of its synthetic captions (None: it has none)."""

    row: int
    augmentation: int
    synthetic: int | None


@dataclass(frozen=True)
class Sample:
    """One choice: a crop uint8 [3, S, S] and its parameters [P], ids [T, L] of the true and the synthetic caption (or
    of none: T is 0 to 2), and for each teacher its embeddings of the image [D] and of those captions [T, D]."""

    crop: Tensor
    parameters: Tensor
    ids: Tensor
    images: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """Samples together: pixels float32 [B, 3, S, S] in [0, 1]; ids [B, T, L]; for each teacher float32 images [B, D]
    and texts [B, T, D]."""

    pixels: Tensor
    ids: Tensor
    images: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]


class ReinforcedDataset(Dataset[Sample]):
    """A complete reinforced dataset, for a student of `variant`. Every shard is read and checked when it is opened.

    Raises:
        InvalidInput: incomplete, damaged, or an image has vanished or changed.
    """

    def __init__(self, folder: Path, variant: Variant, images: Path | None = None) -> None:
        self.folder, self.variant = folder, variant
        self.index = read_index(folder)
        if self.index.stored != self.index.rows:
            raise InvalidInput(
                f"{folder} holds {self.index.stored} of {self.index.rows} pairs; run the same `mobileclip-deploy "
                "reinforce` again, which goes on where it stopped"
            )
        self.pairs = _pairs(folder, self.index, images)
        shards = [read_shard(folder, self.index, entry) for entry in self.index.shards]
        teachers = range(len(self.index.teachers))
        self.parameters = torch.cat([shard.parameters for shard in shards])
        self.image_sha256 = torch.cat([shard.image_sha256 for shard in shards])
        self.captions = torch.cat([shard.captions for shard in shards])
        self.images = tuple(torch.cat([shard.images[number] for shard in shards]) for number in teachers)
        self.texts = tuple(torch.cat([shard.texts[number] for shard in shards]) for number in teachers)
        self.first_caption = torch.cat((torch.zeros(1, dtype=torch.int64), self.captions.cumsum(0)))
        texts = [text for row in self.pairs.rows for text in row.texts]
        if len(texts) != int(self.captions.sum()):
            raise InvalidInput(f"{folder}: {PAIRS} has other captions than the shards; make the dataset again")
        self.ids = _token_ids(texts, variant.tokenizer.context_length)
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return self.index.rows

    def __getitem__(self, choice: Choice) -> Sample:
        row, spec = choice.row, self.variant.preprocess
        parameters = self.parameters[row, choice.augmentation]
        path = self.pairs.folder / self.pairs.rows[row].image
        image = load_image(path)
        if row not in self._seen:  # the stored embeddings are of the image as it was
            if hashlib.sha256(path.read_bytes()).digest() != self.image_sha256[row].numpy().tobytes():
                raise InvalidInput(f"{path} is another image than the one that was embedded; reinforce again")
            self._seen.add(row)
        start = int(self.first_caption[row])
        places = [start] if self.captions[row] else []
        if choice.synthetic is not None:
            places.append(start + 1 + choice.synthetic)
        return Sample(
            crop(image, parameters[None], spec.size, spec.interpolation)[0],
            parameters,
            self.ids[places],
            tuple(stored[row, choice.augmentation] for stored in self.images),
            tuple(stored[places] for stored in self.texts),
        )

    def choose(self, count: int, generator: torch.Generator, rows: Tensor | None = None) -> list[Choice]:
        """`count` pairs at random, none twice while there are others, each with an augmentation and a synthetic caption
        of its own (the true one again where it has none)."""
        rows = torch.arange(len(self)) if rows is None else rows
        order = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-count // len(rows)))])
        chosen = order[:count]
        views = torch.randint(self.index.augmentations, (count,), generator=generator)
        spread = torch.rand(count, generator=generator)
        synthetic = (spread * (self.captions[chosen] - 1)).long()
        return [
            Choice(int(row), int(view), int(caption) if self.captions[row] > 1 else None)
            for row, view, caption in zip(chosen, views, synthetic, strict=True)
        ]


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch; a sample without synthetic caption takes its true one in the place of it when others have one."""
    width = max(len(sample.ids) for sample in samples)

    def filled(values: Tensor) -> Tensor:
        return values if len(values) == width else values[[0] * width]

    pixels = transform(
        torch.stack([sample.crop for sample in samples]), torch.stack([sample.parameters for sample in samples])
    )
    teachers = range(len(samples[0].images))
    return Batch(
        pixels,
        torch.stack([filled(sample.ids) for sample in samples]),
        tuple(_unit(torch.stack([sample.images[number] for sample in samples])) for number in teachers),
        tuple(_unit(torch.stack([filled(sample.texts[number]) for sample in samples])) for number in teachers),
    )


def _unit(stored: Tensor) -> Tensor:
    """Rounding to bfloat16 changes lengths by up to a thousandth."""
    return F.normalize(stored.float(), dim=-1)


def _pairs(folder: Path, index: Index, images: Path | None) -> Pairs:
    file = folder / PAIRS
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    if text_sha256(text) != index.pairs_sha256:
        raise InvalidInput(f"{file} is damaged (its checksum is not the index's); make the dataset again")
    return parse_pairs(text, images or Path(index.images), str(file))


def _token_ids(texts: Sequence[str], length: int) -> Tensor:
    """Ids [N, length]; each different text is tokenized once."""
    if not texts:
        return torch.empty(0, length, dtype=torch.int64)
    different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    ids = torch.from_numpy(tokenize(list(different), length))
    return ids[[different[text] for text in texts]]
