"""Pairs for training: augmented images with their captions as token ids, and teachers' answers if the dataset is
reinforced. Chosen by index, so that a run can resume. No teacher runs here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from mobileclip_deploy.base.files import content_sha256, file_sha256
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.pairs import PAIRS_BYTES, Pairs, parse_pairs
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import Variant
from mobileclip_deploy.pictures.text_files import read_text
from mobileclip_deploy.training.reinforcement.augmentation import crop, draw, transform
from mobileclip_deploy.training.reinforcement.index import OURS, PAIRS, ShardIndex, TeacherEntry, read_index
from mobileclip_deploy.training.reinforcement.policy import AugmentationPolicy
from mobileclip_deploy.training.reinforcement.shards import read_shard


@dataclass(frozen=True)
class Choice:
    """Indices of a pair, one of its augmentations and one of its synthetic captions (None: it has none)."""

    row: int
    augmentation: int
    synthetic: int | None


@dataclass(frozen=True)
class Sample:
    """A training sample of one choice.

    A crop uint8 [3, S, S] and its parameters [P], None where the crop is the whole augmentation. The indices [T] of its
    true and its synthetic caption among all captions of the dataset (T is 0 to 2; -1 where captions have no index), and
    their ids [T, L]. For each teacher its embeddings of the image [D] and of those captions [T, D]. `skipped`: number
    of unusable rows that were passed over for this one.
    """

    row: int
    crop: Tensor
    parameters: Tensor | None
    captions: Tensor
    ids: Tensor
    images: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]
    skipped: int = 0


@dataclass(frozen=True)
class Batch:
    """Stacked samples: the pairs' indices int64 [B]; pixels float32 [B, 3, S, S] in [0, 1]; captions int64 [B, T] and
    their ids [B, T, L]; for each teacher float32 images [B, D] and texts [B, T, D]; the number of `skipped` rows."""

    rows: Tensor
    pixels: Tensor
    captions: Tensor
    ids: Tensor
    images: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]
    skipped: int = 0

    def labels(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Returns a copy with `change` applied to every tensor except the pixels."""
        return replace(
            self,
            rows=change(self.rows),
            captions=change(self.captions),
            ids=change(self.ids),
            images=tuple(map(change, self.images)),
            texts=tuple(map(change, self.texts)),
        )


class TrainingData(Dataset[Sample], ABC):
    """Training data for a student of `variant`: samples, by choices that a generator draws."""

    variant: Variant
    teachers: tuple[TeacherEntry, ...]

    @property
    @abstractmethod
    def captioned(self) -> bool:
        """True if there are captions."""

    @property
    @abstractmethod
    def pairs_sha256(self) -> str:
        """Hash that identifies these pairs."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of pairs."""

    @abstractmethod
    def __getitem__(self, choice: Any) -> Sample:
        """Returns the sample of a choice from `choose`."""

    @abstractmethod
    def choose(self, count: int, generator: torch.Generator) -> list[Any]:
        """Draws a batch of choices."""


class PairDataset(TrainingData):
    """Image-text pairs for a student of `variant`, with `augmentations` of each image and the answers of `teachers`."""

    def __init__(
        self, pairs: Pairs, variant: Variant, augmentations: int, teachers: tuple[TeacherEntry, ...] = ()
    ) -> None:
        self.pairs, self.variant, self.augmentations, self.teachers = pairs, variant, augmentations, teachers
        self.captions = torch.tensor([len(row.texts) for row in pairs.rows])
        # Captions of all pairs are concatenated: those of pair i start at first_caption[i], the true one first.
        self.first_caption = torch.cat((torch.zeros(1, dtype=torch.int64), self.captions.cumsum(0)))
        texts = [text for row in pairs.rows for text in row.texts]
        different = {text: index for index, text in enumerate(dict.fromkeys(texts))}  # each is tokenized once
        self.ids = torch.empty(0, variant.tokens.context_length, dtype=torch.int64)  # [captions of all pairs, L]
        if texts:
            self.ids = torch.from_numpy(encode(list(different), variant.tokens))[[different[text] for text in texts]]

    def __len__(self) -> int:
        return len(self.pairs.rows)

    @property
    def captioned(self) -> bool:
        return self.pairs.captioned

    @property
    def pairs_sha256(self) -> str:
        """SHA-256 of the pairs as JSON lines."""
        return content_sha256(self.pairs.as_lines().encode())

    @abstractmethod
    def read(self, choice: Choice) -> tuple[Image.Image, Tensor]:
        """Returns the image, and the parameters [P] of its augmentation."""

    def said(self, choice: Choice, captions: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Returns each teacher's embeddings of the augmented image [D], and of captions, given by index [T]: [T, D]."""
        return (), ()

    def __getitem__(self, choice: Choice) -> Sample:
        spec = self.variant.preprocess
        image, parameters = self.read(choice)
        start = int(self.first_caption[choice.row])
        indices = [start] if self.captions[choice.row] else []
        if choice.synthetic is not None:
            indices.append(start + 1 + choice.synthetic)
        captions = torch.tensor(indices, dtype=torch.int64)
        return Sample(
            choice.row,
            crop(image, parameters[None], spec.size, spec.interpolation)[0],
            parameters,
            captions,
            self.ids[captions],
            *self.said(choice, captions),
        )

    def choose(self, count: int, generator: torch.Generator) -> list[Choice]:
        """Draws `count` pairs at random; a pair repeats only after all others were drawn. Each has an augmentation and
        a synthetic caption of its own (None if it has no synthetic caption)."""
        rounds = range(-(-count // len(self)))
        chosen = torch.cat([torch.randperm(len(self), generator=generator) for _ in rounds])[:count]
        views = torch.randint(self.augmentations, (count,), generator=generator)
        spread = torch.rand(count, generator=generator)
        synthetic = (spread * (self.captions[chosen] - 1)).long()
        return [
            Choice(int(row), int(view), int(caption) if self.captions[row] > 1 else None)
            for row, view, caption in zip(chosen, views, synthetic, strict=True)
        ]


class PlainDataset(PairDataset):
    """Pairs without teachers. An augmentation is drawn when it is read, from the seed, the pair's and its own index."""

    def __init__(self, pairs: Pairs, variant: Variant, policy: AugmentationPolicy, seed: int) -> None:
        super().__init__(pairs, variant, augmentations=2**31)
        self.policy, self.seed = policy, seed

    def read(self, choice: Choice) -> tuple[Image.Image, Tensor]:
        image = load_image(self.pairs.folder / self.pairs.rows[choice.row].image)
        chance = np.random.default_rng((self.seed, choice.row, choice.augmentation))
        return image, torch.from_numpy(draw(self.policy, 1, image.width, image.height, chance))[0]


class ReinforcedDataset(PairDataset):
    """A complete reinforced dataset, for a student of `variant`. Every shard is read and checked when it is opened.

    Raises:
        InvalidInput: incomplete, damaged, or an image has vanished or changed.
    """

    def __init__(self, folder: Path, variant: Variant, images: Path | None = None) -> None:
        self.folder, self.index = folder, read_index(folder)
        if self.index.format != OURS:
            raise InvalidInput(f"{folder} has shards in DataCompDR's format, which only `train` can read")
        self.index.require_complete(folder)
        super().__init__(_pairs(folder, self.index, images), variant, self.index.augmentations, self.index.teachers)
        shards = [read_shard(folder, self.index, entry) for entry in self.index.shards]
        teachers = range(len(self.teachers))
        self.parameters = torch.cat([shard.parameters for shard in shards])
        self.image_sha256 = torch.cat([shard.image_sha256 for shard in shards])
        self.images = tuple(torch.cat([shard.images[index] for shard in shards]) for index in teachers)
        self.texts = tuple(torch.cat([shard.texts[index] for shard in shards]) for index in teachers)
        if not torch.equal(torch.cat([shard.captions for shard in shards]), self.captions):
            raise InvalidInput(f"{folder}: {PAIRS} has other captions than the shards; create the dataset again")
        self._seen: set[int] = set()

    def read(self, choice: Choice) -> tuple[Image.Image, Tensor]:
        path = self.pairs.folder / self.pairs.rows[choice.row].image
        image = load_image(path)
        if choice.row not in self._seen:  # the stored embeddings are of the image as it was
            if file_sha256(path) != self.image_sha256[choice.row].numpy().tobytes().hex():
                raise InvalidInput(f"{path} has changed since it was embedded; reinforce again")
            self._seen.add(choice.row)
        return image, self.parameters[choice.row, choice.augmentation]

    def said(self, choice: Choice, captions: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (
            tuple(stored[choice.row, choice.augmentation] for stored in self.images),
            tuple(stored[captions] for stored in self.texts),
        )


def _pairs(folder: Path, index: ShardIndex, images: Path | None) -> Pairs:
    file = folder / PAIRS
    text = read_text(file, PAIRS_BYTES)
    if content_sha256(text.encode()) != index.pairs_sha256:
        raise InvalidInput(f"{file} is damaged (its checksum differs from the index's); create the dataset again")
    return parse_pairs(text, images or Path(index.images), str(file))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks samples into a batch. If others have a synthetic caption, a sample without one repeats its true
    caption."""
    width = max(len(sample.ids) for sample in samples)

    def filled(values: Tensor) -> Tensor:
        return values if len(values) == width else values[[0] * width]

    crops = torch.stack([sample.crop for sample in samples])
    parameters = [sample.parameters for sample in samples if sample.parameters is not None]
    if parameters:
        pixels = transform(crops, torch.stack(parameters))
    else:
        pixels = (crops.float() / 255).contiguous(memory_format=torch.channels_last)
    teachers = range(len(samples[0].images))
    return Batch(
        torch.tensor([sample.row for sample in samples]),
        pixels,
        torch.stack([filled(sample.captions) for sample in samples]),
        torch.stack([filled(sample.ids) for sample in samples]),
        tuple(_unit(torch.stack([sample.images[index] for sample in samples])) for index in teachers),
        tuple(_unit(torch.stack([filled(sample.texts[index]) for sample in samples])) for index in teachers),
        sum(sample.skipped for sample in samples),
    )


def _unit(stored: Tensor) -> Tensor:
    """Returns rows scaled to length 1: rounding to bfloat16 changes lengths by up to a thousandth."""
    return F.normalize(stored.float(), dim=-1)
