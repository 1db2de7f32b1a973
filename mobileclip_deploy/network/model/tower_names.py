"""Names of the two towers; in a file of their own, since help needs them without cards."""

from typing import Literal

TowerName = Literal["image", "text"]
TOWERS: tuple[TowerName, ...] = ("image", "text")
