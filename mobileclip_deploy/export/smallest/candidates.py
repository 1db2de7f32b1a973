"""Candidates of a search: precisions per tower with their predicted bytes and noise, and the choice of those to try."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.smallest.prediction import Layer, mixes
from mobileclip_deploy.network.model.precision import RECOVERABLE, TABLE, TABLES, precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes


@dataclass(frozen=True)
class TowerChoice:
    """A precision for one tower, its predicted bytes, and the 4-bit layers of a mix.

    `noise`: predicted error of the embeddings from rounding the weights, see `prediction.Prediction`.
    """

    tower: TowerName
    precision: str
    predicted: int
    four_bit: frozenset[str] = frozenset()
    noise: float = 0.0

    @property
    def label(self) -> str:
        """Unique name among all choices of its tower."""
        if not self.four_bit:
            return self.precision
        return f"{self.precision}-{hashlib.sha256(''.join(sorted(self.four_bit)).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Candidate:
    """A choice for each tower."""

    choices: tuple[TowerChoice, ...]

    @property
    def precisions(self) -> dict[TowerName, str]:
        return {choice.tower: choice.precision for choice in self.choices}

    @property
    def four_bit(self) -> dict[TowerName, frozenset[str]]:
        """Layers of mixed towers that have 4 bits."""
        return {choice.tower: choice.four_bit for choice in self.choices}

    @property
    def predicted(self) -> int:
        return sum(choice.predicted for choice in self.choices)

    @property
    def noise(self) -> tuple[float, int]:
        """Noise of both towers, which adds up in the products of their embeddings, and the number of towers that round
        activations. Their effect is not predicted and never helps."""
        calibrated = sum(precision_of(choice.precision).calibrated for choice in self.choices)
        return sum(choice.noise for choice in self.choices), calibrated


def tower_choices(
    target: Target, tower: TowerName, module: nn.Module, layers: Sequence[Layer] = ()
) -> tuple[TowerChoice, ...]:
    """Returns every precision that a target has for a tower with its options, and every mix of layers, the smallest
    prediction first.

    The precisions include those with another precision for the table of words.
    """
    choices = [TowerChoice(tower, name, 0) for name in target.capabilities.storing.precisions]
    choices += [TowerChoice(tower, f"{rest}{TABLE}{table}", 0) for rest in RECOVERABLE for table in TABLES]
    choices += [TowerChoice(tower, "mixed", 0, chosen) for chosen in mixes(layers)]
    sized = []
    for choice in choices:
        if _has(target, choice):
            storage = storage_of(target, tower, module, choice.precision, choice.four_bit)
            sized.append(replace(choice, predicted=total_bytes(module, storage)))
    return tuple(sorted(sized, key=_order))


def four_bit_layers(target: Target, tower: TowerName, module: nn.Module) -> frozenset[str]:
    """Returns the weights that a mixing target can store at 4 bits: those at 4 bits when all are named."""
    storage = storage_of(target, tower, module, "mixed", frozenset(name for name, _ in module.named_parameters()))
    return frozenset(name for name, grid in storage.items() if grid.bits == 4)


def _has(target: Target, choice: TowerChoice) -> bool:
    """Returns False if the deployment target is too old for the choice, or the tower does not support it."""
    try:
        target.require({choice.tower: choice.precision}, mixed=bool(choice.four_bit))
    except UsageError:
        return False
    return True


def _order(choice: TowerChoice) -> tuple[int, bool, str]:
    # Among equal sizes, a choice without calibration is first: its activations stay exact.
    return choice.predicted, precision_of(choice.precision).calibrated, choice.label


def in_order(choices: Mapping[TowerName, Sequence[TowerChoice]]) -> Iterator[Candidate]:
    """Yields every combination, the smallest prediction first; among equal ones the less calibrated, then by name."""
    combined = [Candidate(tuple(combination)) for combination in itertools.product(*choices.values())]
    yield from sorted(combined, key=lambda one: (one.predicted, [_order(choice) for choice in one.choices]))


def frontier(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Returns the Pareto-optimal candidates in bytes and noise, ordered by bytes, then noise.

    Two candidates with equal noise both stay: the smaller may fail for a reason that is not predicted.
    """
    optimal, nearest = [], None
    for candidate in sorted(candidates, key=lambda one: (one.predicted, one.noise)):
        if nearest is None or candidate.noise <= nearest:
            optimal.append(candidate)
            nearest = candidate.noise
    return optimal
