"""Storage of weights: one policy for all targets, and the rules that differ between them.

Weights of convolutions, linear layers and embeddings are stored on a grid if they are large enough. Biases, norms,
positional embeddings and masks stay floats. A weight outside of all residual branches keeps 8 bits, unless a search has
measured it: no other path makes up for its error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mobileclip_deploy.network.model.precision import PRECISIONS, Precision, precision_of
from mobileclip_deploy.targets.grids.grid import Grid, integers

if TYPE_CHECKING:  # every target's capabilities contain the rules, and must not wait for torch
    from torch import nn

    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer, Storage

Holds = Callable[["Layer", "TowerName", Precision], bool]
"""Predicate of a tower's weight at a precision."""


@dataclass(frozen=True)
class Shared:
    """A grid below 8 bits, and the size of the groups that share a scale or a table.

    Attributes:
        grid: the grid; a table's bits and share of pruned elements come from the precision.
        sizes: allowed numbers of inputs that share a scale, or of outputs that share a table. The first one that
            divides evenly is used. If none does, all outputs share one table, and a weight with scales gets 8 bits.
            Empty: `grid` decides.
    """

    grid: Grid
    sizes: tuple[int, ...] = ()

    def of(self, layer: Layer, precision: Precision) -> Grid | None:
        """Returns the grid of a weight. None if the weight cannot be stored on it."""
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
    """Rules by which a format stores weights.

    Attributes:
        eight: the grid of 8 bits; a `Shared` if the format supports only groups of inputs.
        four, table: the grids below 8 bits, if the format has them.
        words: the 4-bit grid of the word table, if it has its own.
        coarse: returns whether a runtime can use a weight below 8 bits. Depthwise convolutions are few bytes, and the
            first to break.
        floats: returns whether a weight stays float for the runtime's sake although others are on a grid.
        float_bits: bits of the weights that `floats` selects.
        rest_bits: bits of all other tensors when weights are on grids.
        all_halves: True if these are float16, too, at fp16.
        labels: True if a classifier's label embeddings are on a grid. Their products are logits: 256 steps from -100 to
            100 are coarse.
        small: True if weights too small for scales (see `Layer.is_large`) are on a grid, too.
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
    """A target, as far as its storage rules are concerned."""

    def rules(self, precision: str) -> StorageRules | None: ...


def storage_of(
    target: HasRules, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
) -> Storage:
    """Returns how a target stores a tower or classifier: see `stored`."""
    return stored(target.rules(precision), tower, module, precision, four_bit)


def stored(
    rules: StorageRules | None,
    tower: TowerName,
    module: nn.Module,
    precision: str,
    four_bit: frozenset[str] = frozenset(),
) -> Storage:
    """Returns how a tower or classifier is stored. Its word table may have its own precision (`w4p-table-w6p`).

    Args:
        rules: the target's rules. None if it has none: every large weight then has the precision's bits, below 16 with
            one scale per output, and all else is float16.
        module: the module to export, in eval mode and folded.
        four_bit: for precision "mixed", names of the weights to store at 4 bits, where possible; the others have 8.
    """
    from mobileclip_deploy.targets.storage import layers, tensors

    parts = precision_of(precision)
    rest, table = PRECISIONS[parts.rest], PRECISIONS[parts.table or parts.rest]
    chosen: dict[str, Grid | None] = {}
    for layer in layers(module):
        layer_precision = table if layer.is_table else rest
        if rules is not None:
            chosen[layer.parameter] = choose(rules, layer, tower, layer_precision, four_bit)
        elif layer.is_large:
            bits = layer_precision.stored_bits
            chosen[layer.parameter] = Grid(bits) if bits >= 16 else integers(bits, scale_bytes=2)
    if rules is None:
        floats = Grid(max(rest.bits, 16))
    else:
        floats = Grid(rest.bits if rest.kind == "float" and rules.all_halves else rules.rest_bits)
    return {name: chosen.get(name) or floats for name, _ in tensors(module)}


def choose(
    rules: StorageRules, layer: Layer, tower: TowerName, precision: Precision, four_bit: frozenset[str] = frozenset()
) -> Grid | None:
    """Returns the grid of a layer's weight. None if it is stored like the tensors outside of layers.

    Args:
        precision: precision of this layer, without a separate one for the word table.
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
    selected = layer.parameter in four_bit if precision.name == "mixed" else not layer.is_on_main_path
    below = precision.bits < 8 and selected and rules.coarse(layer, tower, precision)
    coarse_grid = shared.of(layer, precision) if shared and below else None
    if isinstance(rules.eight, Shared):
        return coarse_grid or rules.eight.of(layer, precision)
    return coarse_grid or replace(rules.eight, axis=layer.axis)
