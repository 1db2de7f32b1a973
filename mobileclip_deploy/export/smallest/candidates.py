"""What could be tried: precisions a tower, and the order of their predicted bytes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.smallest.sensitivity import Layer, mixes
from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import Target

__all__ = ["Candidate", "TowerChoice", "in_order", "tower_choices"]

# Weights below this size stay in float16 in every quantized precision of every target.
THRESHOLD = 2048
REST_BITS = 16
# Four, and a float16 scale for each block of 32.
FOUR_BITS = 4.5


@dataclass(frozen=True)
class TowerChoice:
    """A precision for one tower, and how many bytes it should take."""

    tower: TowerName
    precision: str
    predicted: int
    four_bit: frozenset[str] = frozenset()

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


def tower_choices(
    target: Target, tower: TowerName, module: nn.Module, layers: Sequence[Layer] = ()
) -> tuple[TowerChoice, ...]:
    """Every precision that a target has for a tower with its options, and every mix of layers, the smallest
    prediction first."""
    large = sum(value.numel() for value in module.parameters() if value.ndim > 1 and value.numel() > THRESHOLD)
    rest = sum(value.numel() for value in module.parameters()) - large
    choices = []
    for name in target.precisions:
        bits = PRECISIONS[name].bits
        choice = TowerChoice(tower, name, (large * bits + rest * max(bits, REST_BITS)) // 8)
        if _has(target, choice):
            choices.append(choice)
    for chosen in mixes(layers):
        four = sum(layer.weights for layer in layers if layer.sha256 in chosen)
        size = (four * FOUR_BITS + (large - four) * 8 + rest * REST_BITS) / 8
        choice = TowerChoice(tower, "mixed", int(size), chosen)
        if _has(target, choice):
            choices.append(choice)
    return tuple(sorted(choices, key=_order))


def _has(target: Target, choice: TowerChoice) -> bool:
    """Not where the deployment target is too old for it, or the tower cannot have it."""
    try:
        target.require({choice.tower: choice.precision}, mixed=bool(choice.four_bit))
    except UsageError:
        return False
    return True


def _order(choice: TowerChoice) -> tuple[int, bool, str]:
    # Of equal size first what needs no calibration: its activations stay exact.
    return choice.predicted, PRECISIONS[choice.precision].calibrated, choice.label


def in_order(choices: Mapping[TowerName, Sequence[TowerChoice]]) -> Iterator[Candidate]:
    """Every combination, the smallest prediction first; of equal ones the less calibrated, then by name."""
    combined = [Candidate(tuple(found)) for found in itertools.product(*choices.values())]
    yield from sorted(combined, key=lambda one: (one.predicted, [_order(choice) for choice in one.choices]))
