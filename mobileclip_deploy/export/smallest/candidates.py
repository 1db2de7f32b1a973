"""What could be tried: precisions per tower, with their predicted bytes and noise; and which of it is worth trying."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.smallest.prediction import Layer, mixes
from mobileclip_deploy.network.model.precision import RESTS, TABLE, TABLES, precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes


@dataclass(frozen=True)
class TowerChoice:
    """A precision for one tower, how many bytes its storage sums up to, and the layers of a mix that have 4 bits.

    `noise`: what rounding its weights is predicted to move the embeddings by, see `prediction.Prediction`.
    """

    tower: TowerName
    precision: str
    predicted: int
    four_bit: frozenset[str] = frozenset()
    noise: float = 0.0

    @property
    def label(self) -> str:
        """Tells it from all others of its tower."""
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
        """The layers of mixed towers that have 4 bits."""
        return {choice.tower: choice.four_bit for choice in self.choices}

    @property
    def predicted(self) -> int:
        return sum(choice.predicted for choice in self.choices)

    @property
    def noise(self) -> tuple[float, int]:
        """That of both towers, which adds up in the products of their embeddings; and how many of them round
        activations too, which is not predicted and never helps."""
        calibrated = sum(precision_of(choice.precision).calibrated for choice in self.choices)
        return sum(choice.noise for choice in self.choices), calibrated


def tower_choices(
    target: Target, tower: TowerName, module: nn.Module, layers: Sequence[Layer] = ()
) -> tuple[TowerChoice, ...]:
    """Every precision that a target has for a tower with its options, those whose table of words has its own among
    them, and every mix of layers, the smallest prediction first."""
    choices = [TowerChoice(tower, name, 0) for name in target.abilities.precisions]
    choices += [TowerChoice(tower, f"{rest}{TABLE}{table}", 0) for rest in RESTS for table in TABLES]
    choices += [TowerChoice(tower, "mixed", 0, chosen) for chosen in mixes(layers)]
    sized = []
    for choice in choices:
        if _has(target, choice):
            storage = storage_of(target, tower, module, choice.precision, choice.four_bit)
            sized.append(replace(choice, predicted=total_bytes(module, storage)))
    return tuple(sorted(sized, key=_order))


def four_bit_layers(target: Target, tower: TowerName, module: nn.Module) -> frozenset[str]:
    """The weights that a target which mixes can store at 4 bits: those that have them when all are named."""
    storage = storage_of(target, tower, module, "mixed", frozenset(name for name, _ in module.named_parameters()))
    return frozenset(name for name, grid in storage.items() if grid.bits == 4)


def _has(target: Target, choice: TowerChoice) -> bool:
    """Not where the deployment target is too old for it, or the tower cannot have it."""
    try:
        target.require({choice.tower: choice.precision}, mixed=bool(choice.four_bit))
    except UsageError:
        return False
    return True


def _order(choice: TowerChoice) -> tuple[int, bool, str]:
    # Of equal size first what needs no calibration: its activations stay exact.
    return choice.predicted, precision_of(choice.precision).calibrated, choice.label


def in_order(choices: Mapping[TowerName, Sequence[TowerChoice]]) -> Iterator[Candidate]:
    """Every combination, the smallest prediction first; of equal ones the less calibrated, then by name."""
    combined = [Candidate(tuple(found)) for found in itertools.product(*choices.values())]
    yield from sorted(combined, key=lambda one: (one.predicted, [_order(choice) for choice in one.choices]))


def frontier(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that no other is nearer than without being larger, in their order (see `in_order`).

    Of two that are predicted to be as near the smaller may fail for what no prediction sees, so both stay.
    """
    kept, nearest = [], None
    for candidate in sorted(candidates, key=lambda one: (one.predicted, one.noise)):
        if nearest is None or candidate.noise <= nearest:
            kept.append(candidate)
            nearest = candidate.noise
    return kept
