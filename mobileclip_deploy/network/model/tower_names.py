"""Names of the two towers; in a file of their own, since help needs them without cards."""

from __future__ import annotations

from typing import Literal

TowerName = Literal["image", "text"]
TOWERS: tuple[TowerName, ...] = ("image", "text")
