"""Which weight is stored how: one policy for all targets, and the rules in which they differ.

On a grid stand the weights of convolutions, linear layers and embeddings that are worth their scales; biases, norms,
positional embeddings and masks stay floats. Below 8 bits nothing stands that the rest cannot make up for: what is in
no residual branch keeps 8, unless a search has measured it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mobileclip_deploy.network.model.precision import PRECISIONS, Precision, precision_of
from mobileclip_deploy.targets.grids.grid import Grid, integers

if TYPE_CHECKING:  # the rules stand in every target's table, which must not wait for torch
    from torch import nn

    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer, Storage

Holds = Callable[["Layer", "TowerName", Precision], bool]
"""Something that holds of a weight of a tower, or does not, at a precision."""


@dataclass(frozen=True)
class Shared:
    """A grid below 8 bits, and how much of a weight may share a scale or a table.

    Attributes:
        grid: bits and pruned numbers of a table are those of the precision.
        sizes: inputs that share a scale, or outputs that share a table: the first that divides. Where none does a table
            is shared by all, and a scale by none: the weight has 8 bits. Empty: as `grid` says.
    """

    grid: Grid
    sizes: tuple[int, ...] = ()

    def of(self, layer: Layer, precision: Precision) -> Grid | None:
        """The grid of a weight; None where it cannot be on this one."""
        grid = replace(self.grid, axis=layer.axis)
        if grid.kind == "table":
            group = next((size for size in self.sizes if layer.outputs % size == 0), None)
            return replace(grid, bits=precision.bits, group=group, pruned=precision.pruned)
        if not self.sizes:
            return grid
        block = next((size for size in self.sizes if layer.inputs % size == 0), None)
        return None if block is None else replace(grid, block=block)


@dataclass(frozen=True)
class StorageRules:
    """How a format stores weights.

    Attributes:
        eight: the grid of 8 bits; of a format that has it for groups of inputs alone, with their sizes.
        four, table: those below, where the format has them.
        words: of 4 bits, of the table of words, where it has one of its own.
        coarse: which weights a runtime can take below 8 bits. Depthwise convolutions are few bytes, and the first to
            break.
        floats: which weights stay floats where others stand on a grid, for their runtime's sake.
        float_bits: of those.
        rest_bits: of what is no layer's weight, where weights stand on grids.
        all_halves: at fp16 that too is float16.
        labels: whether a classifier's label embeddings stand on a grid. Their products are logits: 256 steps from -100
            to 100 are coarse.
        small: whether weights do that are hardly worth their scales (see `Layer.is_large`).
    """

    eight: Grid | Shared
    four: Shared | None = None
    table: Shared | None = None
    words: Shared | None = None
    coarse: Holds = lambda layer, tower, precision: not layer.is_depthwise
    floats: Holds = lambda layer, tower, precision: False
    float_bits: int = 32
    rest_bits: int = 32
    all_halves: bool = True
    labels: bool = False
    small: bool = False


class HasRules(Protocol):
    """A target, as far as its rules of storage are concerned."""

    def rules(self, precision: str) -> StorageRules | None: ...


def storage_of(
    target: HasRules, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
) -> Storage:
    """How a target stores a tower or classifier: see `stored`."""
    return stored(target.rules(precision), tower, module, precision, four_bit)


def stored(
    rules: StorageRules | None,
    tower: TowerName,
    module: nn.Module,
    precision: str,
    four_bit: frozenset[str] = frozenset(),
) -> Storage:
    """How a tower or classifier is stored, its table of words perhaps at a precision of its own (`w4p-table-w6p`).

    Args:
        rules: None of a target that has none. It is taken to store every large weight in the bits of the precision,
            below 16 with a scale an output; all else in float16 then.
        module: what is exported: in eval mode, folded.
        four_bit: for precision "mixed": names of the weights to store at 4 bits, where these can be; the others have 8.
    """
    from mobileclip_deploy.targets.storage import layers, tensors

    found = precision_of(precision)
    rest, table = PRECISIONS[found.rest], PRECISIONS[found.table or found.rest]
    chosen: dict[str, Grid | None] = {}
    for layer in layers(module):
        own = table if layer.is_table else rest
        if rules is not None:
            chosen[layer.parameter] = choose(rules, layer, tower, own, four_bit)
        elif layer.is_large:
            bits = own.stored_bits
            chosen[layer.parameter] = Grid(bits) if bits >= 16 else integers(bits, scale_bytes=2)
    if rules is None:
        floats = Grid(max(rest.bits, 16))
    else:
        floats = Grid(rest.bits if rest.kind == "float" and rules.all_halves else rules.rest_bits)
    return {name: chosen.get(name) or floats for name, _ in tensors(module)}


def choose(
    rules: StorageRules, layer: Layer, tower: TowerName, precision: Precision, four_bit: frozenset[str] = frozenset()
) -> Grid | None:
    """The grid of a layer's weight; None leaves it as what is no layer's weight is.

    Args:
        precision: without a table's own.
        four_bit: see `stored`.
    """
    if layer.module is None and not rules.labels:
        return None
    if precision.kind == "float":
        return Grid(precision.bits)
    if not (rules.small or layer.is_large):
        return None
    if rules.floats(layer, tower, precision):
        return Grid(rules.float_bits)
    shared = rules.table if precision.kind == "table" else rules.four
    if layer.is_table and precision.bits == 4 and rules.words is not None:
        shared = rules.words
    wanted = layer.parameter in four_bit if precision.name == "mixed" else not layer.is_on_main_path
    below = precision.bits < 8 and wanted and rules.coarse(layer, tower, precision)
    found = shared.of(layer, precision) if shared and below else None
    if isinstance(rules.eight, Shared):
        return found or rules.eight.of(layer, precision)
    return found or replace(rules.eight, axis=layer.axis)
