"""smallest.json: the log of a search."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel

from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.export.smallest.prediction import Layer
from mobileclip_deploy.network.model.variants import TowerName

Outcome = Literal["passed", "failed", "undecided"]


class Trial(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """One candidate and its outcome.

    `bytes`: None if it was skipped before both towers were written. `drops`: in points. `four_bit`: the layers of a
    "mixed" tower that have 4 bits. `predicted_snr_db`: of each tower, from its weights alone. None if no change is
    predicted. `more`: number of further pictures to confirm on that would decide an undecided one. None if no number
    would.
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
        """Number of further pictures that the dataset needs: two thirds of them are used to confirm
        (`Dataset.divided`)."""
        return None if self.more is None else math.ceil(self.more * 3 / 2)


class Point(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """A Pareto-optimal candidate by its predictions.

    `snr_db`: predicted, of both towers together. None if no change is predicted. `outcome`: None if it was not tried.
    """

    precisions: dict[TowerName, Name]
    predicted_bytes: int
    snr_db: float | None
    outcome: Outcome | None = None


class SearchLog(BaseModel, frozen=True):
    """smallest.json: all trials; the last one is the bundle.

    `layers`: sensitivity of each layer, if the target can store layers at bits of their own. `candidates`: number of
    combinations. `ruled_out`: choices of a tower that are predicted to miss its gate by far, with the prediction.
    `frontier`: Pareto-optimal combinations of the rest, without towers that failed since. `fallback`: True if the
    bundle is the target's default precision, undecided, since nothing smaller passed.
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
