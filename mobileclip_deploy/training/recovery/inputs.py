"""Training inputs of a tower with the float original's embeddings of them, from its own reinforced dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.pairs import Pairs
from mobileclip_deploy.network.inputs import normalize
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.training.recovery.plan import RecoveryPlan, Settings, check_enough
from mobileclip_deploy.training.reinforcement.building import ReinforcementSettings, reinforce
from mobileclip_deploy.training.reinforcement.samples import Choice, ReinforcedDataset, collate
from mobileclip_deploy.training.reinforcement.teachers import Teacher

COMPARED = 256


def own_embeddings(plan: RecoveryPlan, progress: Progress) -> ReinforcedDataset:
    """Returns a reinforced dataset whose teacher is the original itself: the plan's data if it is one, or made from its
    images.

    Raises:
        InvalidInput: the data was made by another checkpoint, holds too few images or captions (then nothing was
            written), or cannot be read.
    """
    original, provenance = plan.source.model, plan.source.provenance
    settings, data = plan.request.settings, plan.request.data
    if plan.request.pairs is not None:
        _check_captions(plan.request.pairs, plan)
        result = reinforce(
            plan.request.pairs,
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
            f"{data} has embeddings of {entry.embed_dim} dimensions (from {entry.file}), but {provenance.file} has "
            f"{original.variant.embed_dim}; recover from images, or from a dataset that this checkpoint reinforced"
        )
    if len(dataset.index.teachers) != 1 or not entry.is_of(provenance.sha256, provenance.weights):
        raise InvalidInput(
            f"{data} was reinforced by {', '.join(t.file for t in dataset.index.teachers)}, not by {provenance.file} "
            "alone; recover from images, or from a dataset that this checkpoint reinforced"
        )
    check_enough(dataset.pairs, plan.request)
    _check_captions(dataset.pairs, plan)
    return dataset


def _check_captions(pairs: Pairs, plan: RecoveryPlan) -> None:
    """Refuses data with too few captions that differ for the text tower."""
    if "text" not in plan.request.precisions:
        return
    needed, tokens = plan.request.settings.held_back, plan.source.variant.tokens
    different: set[bytes] = set()
    for text in dict.fromkeys(text for row in pairs.rows for text in row.texts):
        different.add(encode([text], tokens).tobytes())
        if len(different) == needed:
            return
    raise InvalidInput(f"{plan.request.data} has {len(different)} different captions; {needed} are needed")


@dataclass(frozen=True)
class TowerInputs:
    """Inputs of one tower, preprocessed for it, with the original's unit embeddings [N, D] of them.

    `draw`: returns a number of random training inputs. `held_back`: returns up to 256 inputs that are not trained on,
    the same every time. `across`: the original's unit embeddings [M, D] that they are ranked against. Those are
    captions for images, and images for captions (and for images without captions). `scale` is its factor of the
    cosines.
    """

    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    held_back: Callable[[], tuple[Tensor, Tensor]]
    across: Tensor
    scale: float


def tower_inputs(tower: TowerName, dataset: ReinforcedDataset, settings: Settings) -> TowerInputs:
    """Returns the inputs of a tower: augmented images, normalised for the variant, or the ids of all different
    captions."""
    images = F.normalize(dataset.images[0].flatten(0, 1).float(), dim=1)
    scale = dataset.index.teachers[0].scale
    if tower == "text":
        first = torch.from_numpy(np.sort(np.unique(dataset.ids.numpy(), axis=0, return_index=True)[1]))
        ids = dataset.ids[first]
        targets = F.normalize(dataset.texts[0][first].float(), dim=1)
        held_rows, trained = _split(len(ids), settings.held_back)

        def taken(rows: Tensor) -> tuple[Tensor, Tensor]:
            return ids[rows], targets[rows]

        return TowerInputs(
            lambda count, chance: taken(trained[torch.randint(len(trained), (count,), generator=chance)]),
            lambda: taken(held_rows[:COMPARED]),
            images,
            scale,
        )
    held_rows, trained = _split(len(dataset), settings.held_back)

    def loaded(choices: list[Choice]) -> tuple[Tensor, Tensor]:
        batch = collate([dataset[choice] for choice in choices])
        return normalize(batch.pixels, dataset.variant.preprocess), batch.images[0]

    return TowerInputs(
        lambda count, chance: loaded(dataset.choose(count, chance, trained)),
        lambda: loaded([Choice(int(row), 0, None) for row in held_rows[:COMPARED]]),
        F.normalize(dataset.texts[0].float(), dim=1) if dataset.pairs.captioned else images,
        scale,
    )


def _split(count: int, held_back: int) -> tuple[Tensor, Tensor]:
    """Returns the indices that are held back, spread evenly, and the others."""
    indices = torch.arange(count)
    return indices[::held_back], indices[indices % held_back != 0]
