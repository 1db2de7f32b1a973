"""What a search did: smallest.json."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel

from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.export.smallest.prediction import Layer
from mobileclip_deploy.network.model.variants import TowerName

Outcome = Literal["passed", "failed", "undecided"]


class Trial(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """One candidate: what it is, how large, and what became of it. `bytes` is None where it was passed over before
    both towers were written; `drops` are in points; `four_bit` names the layers of a "mixed" tower that have 4 bits.
    `predicted_snr_db`: of each tower, by its weights alone; None where nothing is predicted to move. `more`: of an
    undecided one, how many more pictures to confirm it on would tell; None where no number would.
    """

    precisions: dict[TowerName, Name]
    predicted_bytes: int
    bytes: int | None = None
    predicted_snr_db: dict[TowerName, float | None] = {}
    drops: dict[Name, float] = {}
    four_bit: dict[TowerName, tuple[Name, ...]] = {}
    more: int | None = None
    outcome: Outcome
    reason: Prose | None = None

    @property
    def pictures(self) -> int | None:
        """How many more pictures the dataset would need: two thirds of them are what is confirmed on
        (`Dataset.divided`)."""
        return None if self.more is None else math.ceil(self.more * 3 / 2)


class Point(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """A candidate that no other is predicted to be nearer than without being larger. `snr_db`: predicted, of both
    towers together; None where nothing is predicted to move. `outcome`: None where it was not tried."""

    precisions: dict[TowerName, Name]
    predicted_bytes: int
    snr_db: float | None
    outcome: Outcome | None = None


class SearchLog(BaseModel, frozen=True):
    """smallest.json: all that was tried; the last one is the bundle. `layers`: how sensitive each is, where the target
    can store layers at bits of their own. `candidates`: how many combinations there were; `ruled_out`: choices of a
    tower that are predicted to miss its gate by far, with what is predicted; `frontier`: of the rest those combinations
    that are worth trying, but for towers that failed since. `fallback`: the bundle is the target's default precision,
    undecided, since nothing smaller passed.
    """

    schema_version: Literal[1] = 1
    target: Name
    max_drop: float
    max_size: float | None = None
    dataset: Name | None
    trials: tuple[Trial, ...]
    layers: dict[TowerName, tuple[Layer, ...]] = {}
    candidates: int = 0
    ruled_out: dict[TowerName, dict[Name, Prose]] = {}
    frontier: tuple[Point, ...] = ()
    fallback: bool = False
