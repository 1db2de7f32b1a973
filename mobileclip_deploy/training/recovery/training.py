"""Training of a rounded tower to reproduce its float original's embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.rounding.tuning import RANKED, distance
from mobileclip_deploy.training.recovery.inputs import TowerInputs
from mobileclip_deploy.training.recovery.plan import Settings

Encode = Callable[[Tensor], Tensor]
WARM_UP = 0.1


@dataclass(frozen=True)
class Closeness:
    """Distance of a tower from its float original over inputs that were not trained on: mean and worst cosine.
    `agreement`: share of inputs whose nearest embedding of the other tower is the same as the original's."""

    mean: float
    worst: float
    agreement: float

    def better_than(self, other: Closeness) -> bool:
        """Returns whether the mean cosine is higher and the agreement not lower: retrieval ranks by small
        differences."""
        return self.mean > other.mean and self.agreement >= other.agreement


@torch.no_grad()
def closeness(encode: Encode, inputs: TowerInputs, batch: int) -> Closeness:
    """Measures a tower on the held-back inputs."""
    held_inputs, expected = inputs.held_back()
    actual = torch.cat([encode(part) for part in held_inputs.split(batch)])
    cosines = F.cosine_similarity(actual.double(), expected.double())
    # NaN counts as the largest distance.
    cosines = torch.nan_to_num(cosines, nan=-1.0)
    ours, theirs = ((side @ inputs.across.T).argmax(dim=1) for side in (actual, expected))
    agreement = (ours == theirs) & torch.isfinite(actual).all(dim=1)
    return Closeness(float(cosines.mean()), float(cosines.min()), float(agreement.double().mean()))


def train(
    tower: nn.Module, encode: Encode, inputs: TowerInputs, settings: Settings, fixed: frozenset[str], progress: Progress
) -> None:
    """Minimises the distance of the tower's embeddings from the original's, in place. The tower ends in eval mode.

    The loss is 1 - cosine, and a tenth of the divergence of the rankings. Tower and original both rank `RANKED`
    embeddings of the other tower, as retrieval and classification do.

    Args:
        tower: folded, with grids attached (`attach`).
        encode: calls the tower.
        fixed: the parameters that stay as they are (`Storing.fixed`).
    """
    generator = torch.Generator().manual_seed(settings.seed)
    tower.requires_grad_(True).train()
    trained = [parameter for name, parameter in tower.named_parameters() if name not in fixed]
    optimizer = torch.optim.Adam(trained, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=WARM_UP
    )
    for step in range(settings.steps):
        drawn, expected = inputs.draw(settings.batch, generator)
        others = inputs.across[torch.randint(len(inputs.across), (RANKED,), generator=generator)]
        loss = distance(F.normalize(encode(drawn), dim=1), expected, others, inputs.scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            progress(f"step {step} of {settings.steps}, loss {loss.item():.4f}")
    tower.requires_grad_(False).eval()
