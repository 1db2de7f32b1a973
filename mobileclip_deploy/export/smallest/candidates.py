"""Candidates of a search: precisions per tower, with their predicted bytes."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.smallest.sensitivity import Layer, mixes
from mobileclip_deploy.network.model.precision import BEFORE_TABLE, TABLE, TABLES, precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes


@dataclass(frozen=True)
class TowerChoice:
    """A precision for one tower, its predicted bytes, and the 4-bit layers of a mix."""

    tower: TowerName
    precision: str
    predicted: int
    four_bit: frozenset[str] = frozenset()

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


def tower_choices(
    target: Target, tower: TowerName, module: nn.Module, layers: Sequence[Layer] = ()
) -> tuple[TowerChoice, ...]:
    """Returns every precision that a target has for a tower with its options, and every mix of layers, the smallest
    prediction first.

    The precisions include those with another precision for the table of words. Of choices that store all weights alike,
    only the first is returned: w8a8 rounds activations in addition to w8, and is not smaller.
    """
    choices = [TowerChoice(tower, name, 0) for name in target.capabilities.storing.precisions]
    choices += [TowerChoice(tower, f"{rest}{TABLE}{table}", 0) for rest in BEFORE_TABLE for table in TABLES]
    choices += [TowerChoice(tower, "mixed", 0, chosen) for chosen in mixes(layers)]
    sized = {}
    for choice in choices:
        try:
            target.require({tower: choice.precision}, mixed=bool(choice.four_bit))
        except UsageError:  # the deployment target is too old for the choice, or the tower does not support it
            continue
        storage = storage_of(target, tower, module, choice.precision, choice.four_bit)
        sized[replace(choice, predicted=total_bytes(module, storage))] = frozenset(storage.items())
    by_storage = {sized[choice]: choice for choice in sorted(sized, key=_order, reverse=True)}
    return tuple(sorted(by_storage.values(), key=_order))


def four_bit_layers(target: Target, tower: TowerName, module: nn.Module) -> frozenset[str]:
    """Returns the weights that a mixing target can store at 4 bits: those at 4 bits when all are named."""
    storage = storage_of(target, tower, module, "mixed", frozenset(name for name, _ in module.named_parameters()))
    return frozenset(name for name, grid in storage.items() if grid.bits == 4)


def _order(choice: TowerChoice) -> tuple[int, bool, bool, str]:
    # Among equal sizes, a choice without calibration is first: its activations stay exact. Then one with a name.
    return choice.predicted, precision_of(choice.precision).calibrated, bool(choice.four_bit), choice.label


def in_order(choices: Mapping[TowerName, Sequence[TowerChoice]], first: Mapping[TowerName, str]) -> list[Candidate]:
    """Returns every combination, the smallest prediction first. Among equal ones the precisions of `first` come first,
    then the less calibrated, then by name."""
    combined = [Candidate(combination) for combination in itertools.product(*choices.values())]
    return sorted(
        combined, key=lambda one: (one.predicted, one.precisions != first, [_order(choice) for choice in one.choices])
    )
