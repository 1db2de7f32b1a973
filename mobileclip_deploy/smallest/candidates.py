"""What could be tried: precisions a tower, and the order of their predicted bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.precision import PRECISIONS
from mobileclip_deploy.targets import ExportOptions, Target
from mobileclip_deploy.towers import TowerName

__all__ = ["Candidate", "TowerChoice", "in_order", "options_for", "tower_choices"]

# Weights below this size stay in float16 in every quantized precision of every target.
THRESHOLD = 2048
REST_BITS = 16


@dataclass(frozen=True)
class TowerChoice:
    """A precision for one tower, and how many bytes it should take."""

    tower: TowerName
    precision: str
    predicted: int


@dataclass(frozen=True)
class Candidate:
    """A choice for each tower."""

    choices: tuple[TowerChoice, ...]

    @property
    def precisions(self) -> dict[TowerName, str]:
        return {choice.tower: choice.precision for choice in self.choices}

    @property
    def predicted(self) -> int:
        return sum(choice.predicted for choice in self.choices)


def tower_choices(
    target: Target, tower: TowerName, module: nn.Module, options: ExportOptions
) -> tuple[TowerChoice, ...]:
    """Every precision that a target has for a tower with these options, the smallest prediction first."""
    large = sum(value.numel() for value in module.parameters() if value.ndim > 1 and value.numel() > THRESHOLD)
    rest = sum(value.numel() for value in module.parameters()) - large
    choices = []
    for name in target.precisions:
        try:
            target.require({tower: name}, options_for([name], options))
        except UsageError:  # a deployment target that is too old for it, or a tower it has not
            continue
        bits = PRECISIONS[name].bits
        choices.append(TowerChoice(tower, name, (large * bits + rest * max(bits, REST_BITS)) // 8))
    return tuple(sorted(choices, key=_order))


def _order(choice: TowerChoice) -> tuple[int, bool, str]:
    # Of equal size first what needs no calibration: its activations stay exact.
    return choice.predicted, PRECISIONS[choice.precision].calibrated, choice.precision


def in_order(choices: Mapping[TowerName, Sequence[TowerChoice]]) -> Iterator[Candidate]:
    """Every combination, the smallest prediction first; of equal ones the less calibrated, then by name."""
    combined = [Candidate(tuple(found)) for found in itertools.product(*choices.values())]
    yield from sorted(combined, key=lambda one: (one.predicted, [_order(choice) for choice in one.choices]))


def options_for(precisions: Sequence[str], options: ExportOptions) -> ExportOptions:
    """The options without calibration images where no precision would use them: targets refuse what has no use."""
    used = any(PRECISIONS[name].calibrated for name in precisions)
    return options if used else replace(options, calibration=None)
