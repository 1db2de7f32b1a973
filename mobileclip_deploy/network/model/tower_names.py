"""What the two towers are called; in a file of its own, since help needs these names and no cards."""

from __future__ import annotations

from typing import Literal

TowerName = Literal["image", "text"]
TOWERS: tuple[TowerName, ...] = ("image", "text")
