"""smallest.json: the log of a search."""

from typing import Literal

from pydantic import BaseModel

from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.export.smallest.sensitivity import Layer
from mobileclip_deploy.network.model.variants import TowerName

Outcome = Literal["passed", "failed", "undecided"]


class Trial(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """One candidate and its outcome.

    `bytes`: None if it was skipped before both towers were written. `drops`: in points. `four_bit`: the layers of a
    "mixed" tower that have 4 bits. `predicted_snr_db`: empty, but in versions until 0.4. `more`: number of further
    pictures that would decide an undecided one. None if no number would.
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


class Point(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """A Pareto-optimal candidate by its predictions, in logs of versions until 0.4."""

    precisions: dict[TowerName, Name]
    predicted_bytes: int
    snr_db: float | None
    outcome: Outcome | None = None


class SearchLog(BaseModel, frozen=True):
    """smallest.json: all trials; the last one is the bundle.

    `layers`: sensitivity of each layer, if the target can store layers at bits of their own. `candidates`: number of
    combinations. `ruled_out`, `frontier`: empty, but in versions until 0.4. `fallback`: True if the bundle is the
    target's default precision, undecided, since nothing smaller passed.
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
