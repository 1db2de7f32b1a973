"""How long and how fast a recovery trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mobileclip_deploy.arguments import Bounds, Count, Seed, checked_fields

__all__ = ["Settings"]


@checked_fields
@dataclass(frozen=True)
class Settings:
    """`steps` of `batch` inputs for each tower, Adam with a warm-up of a tenth and a cosine to 0 from `learning_rate`.

    `images` of the data (spread evenly over it) are embedded, `augmentations` of each. One in `held_back` of them is
    not trained on but decides whether what was trained is kept.

    Raises:
        UsageError: one of them is no number, or out of its bounds.
    """

    steps: Count = 300
    batch: Count = 64
    learning_rate: Annotated[float, Bounds(0, above=True)] = 2e-4
    images: Annotated[int, Bounds(10)] = 4096
    augmentations: Count = 4
    held_back: Annotated[int, Bounds(2)] = 10
    seed: Seed = 0
