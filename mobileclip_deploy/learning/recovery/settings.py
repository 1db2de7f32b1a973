"""How long and how fast a recovery trains."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """`steps` of `batch` inputs for each tower, Adam with a warm-up of a tenth and a cosine to 0 from `learning_rate`.

    `images` of the data (spread evenly over it) are embedded, `augmentations` of each. One in `held_back` of them is
    not trained on but decides whether what was trained is kept.
    """

    steps: int = 300
    batch: int = 64
    learning_rate: float = 2e-4
    images: int = 4096
    augmentations: int = 4
    held_back: int = 10
    seed: int = 0
