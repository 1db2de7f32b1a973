"""What a tower is trained on: inputs, and what the float original said of them, from its own reinforced dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.learning.recovery.plan import RecoveryPlan, Settings, check_enough
from mobileclip_deploy.learning.reinforcement.building import ReinforcementSettings, reinforce
from mobileclip_deploy.learning.reinforcement.pairs import Pairs
from mobileclip_deploy.learning.reinforcement.samples import Choice, ReinforcedDataset, collate
from mobileclip_deploy.learning.reinforcement.teachers import Teacher
from mobileclip_deploy.model.preprocessing import normalize
from mobileclip_deploy.model.tokenizer import encode
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.progress import Progress

__all__ = ["ImageInputs", "TextInputs", "TowerInputs", "own_embeddings", "tower_inputs"]

COMPARED = 256


def own_embeddings(plan: RecoveryPlan, progress: Progress) -> ReinforcedDataset:
    """A reinforced dataset whose teacher is the original itself: the plan's data if it is one, or made of its images.

    Raises:
        InvalidInput: the data was made by another checkpoint, or holds too few images or captions (then nothing was
            written), or what cannot be read.
    """
    original, wanted, settings, data = plan.source.model, plan.source.provenance, plan.settings, plan.data
    if plan.pairs is not None:
        _check_captions(plan.pairs, plan)
        result = reinforce(
            plan.pairs,
            [Teacher.of(original)],
            plan.work,
            ReinforcementSettings(settings.augmentations, seed=settings.seed, existing=plan.existing),
            progress=lambda text: progress(f"embedding, {text}"),
        )
        data = result.folder
    dataset = ReinforcedDataset(data, original.variant)
    entry = dataset.index.teachers[0]
    if entry.embed_dim != original.variant.embed_dim:
        raise InvalidInput(
            f"{data} holds embeddings of {entry.embed_dim} numbers (by {entry.file}), {wanted.file} gives "
            f"{original.variant.embed_dim}; recover from images, or from a dataset that this checkpoint reinforced"
        )
    if len(dataset.index.teachers) != 1 or not entry.is_of(wanted.sha256, wanted.weights):
        raise InvalidInput(
            f"{data} was reinforced by {', '.join(one.file for one in dataset.index.teachers)}, not by {wanted.file} "
            "alone; recover from images, or from a dataset that this checkpoint reinforced"
        )
    check_enough(dataset.pairs, plan.data, plan.settings, plan.precisions)
    _check_captions(dataset.pairs, plan)
    return dataset


def _check_captions(pairs: Pairs, plan: RecoveryPlan) -> None:
    """Refuse captions of which the text tower sees too few different ones."""
    if "text" not in plan.precisions:
        return
    needed, tokens = plan.settings.held_back, plan.source.variant.tokens
    different: set[bytes] = set()
    for text in dict.fromkeys(text for row in pairs.rows for text in row.texts):
        different.add(encode([text], tokens).tobytes())
        if len(different) == needed:
            return
    raise InvalidInput(f"{plan.data} has {len(different)} different captions; {needed} are needed")


class TowerInputs(ABC):
    """Inputs of one tower in its own terms, and the original's unit embeddings [N, D] of them.

    `across` are the original's unit embeddings [M, D] of what they are ranked against: captions for images, images for
    captions (and for images without captions); `scale` is its factor of the cosines.
    """

    across: Tensor
    scale: float

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """At random, of those that are trained on."""

    @abstractmethod
    def held_back(self) -> tuple[Tensor, Tensor]:
        """Up to 256 that are not trained on, the same every time."""


class ImageInputs(TowerInputs):
    """Augmented images, normalised as the variant says."""

    def __init__(self, dataset: ReinforcedDataset, settings: Settings) -> None:
        self.dataset = dataset
        known = dataset.texts[0] if dataset.pairs.captioned else dataset.images[0].flatten(0, 1)
        self.across, self.scale = F.normalize(known.float(), dim=1), dataset.index.teachers[0].scale
        self.kept, self.trained = _split(len(dataset), settings.held_back)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self._load(self.dataset.choose(count, generator, self.trained))

    def held_back(self) -> tuple[Tensor, Tensor]:
        return self._load([Choice(int(row), 0, None) for row in self.kept[:COMPARED]])

    def _load(self, choices: list[Choice]) -> tuple[Tensor, Tensor]:
        batch = collate([self.dataset[choice] for choice in choices])
        return normalize(batch.pixels, self.dataset.variant.preprocess), batch.images[0]


class TextInputs(TowerInputs):
    """Token ids of all different captions, of which there are some."""

    def __init__(self, dataset: ReinforcedDataset, settings: Settings) -> None:
        self.ids, first = _different(dataset.ids)
        self.wanted = F.normalize(dataset.texts[0][first].float(), dim=1)
        self.across = F.normalize(dataset.images[0].flatten(0, 1).float(), dim=1)
        self.scale = dataset.index.teachers[0].scale
        self.kept, self.trained = _split(len(self.ids), settings.held_back)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = self.trained[torch.randint(len(self.trained), (count,), generator=generator)]
        return self.ids[chosen], self.wanted[chosen]

    def held_back(self) -> tuple[Tensor, Tensor]:
        return self.ids[self.kept[:COMPARED]], self.wanted[self.kept[:COMPARED]]


def tower_inputs(tower: TowerName, dataset: ReinforcedDataset, settings: Settings) -> TowerInputs:
    """The inputs of a tower."""
    return ImageInputs(dataset, settings) if tower == "image" else TextInputs(dataset, settings)


def _split(count: int, held_back: int) -> tuple[Tensor, Tensor]:
    """Numbers that are held back, spread evenly, and the others."""
    numbers = torch.arange(count)
    return numbers[::held_back], numbers[numbers % held_back != 0]


def _different(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of [N, L] in order, and where each first occurs."""
    first: dict[bytes, int] = {}
    for number, row in enumerate(ids.numpy()):
        first.setdefault(row.tobytes(), number)
    places = torch.tensor(list(first.values()))
    return ids[places], places
