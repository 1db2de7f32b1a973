"""What the numbers of a weight can become: the points of its grid, with scales or tables chosen and held.

A target chooses scales and tables itself, from the numbers that it is given. So that it finds these again, one number
of every block stands at the end of the integers' range, and a table has no more entries than the target's.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mobileclip_deploy.targets.grids.encode import LEARNED, cheapest, nonzero
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import weighted_table


class Lattice(ABC):
    """Points for each number of a weight [G, R, n]."""

    @abstractmethod
    def ordered(self, columns: Tensor) -> Lattice:
        """The same with its columns in another order, [G, R, n] of their old places."""

    @abstractmethod
    def nearest(self, column: int, values: Tensor) -> Tensor:
        """The point nearest to each value [G, R] of a column."""

    def all_nearest(self, values: Tensor) -> Tensor:
        """The same for every column of [G, R, n]."""
        return torch.stack([self.nearest(column, values[:, :, column]) for column in range(values.shape[2])], dim=2)


@dataclass(frozen=True)
class IntegerLattice(Lattice):
    """Integers times a scale. `scales` [G, R, n], that of each number's block; `pinned` [G, R, n], the integer at which
    a block's extreme stands and has to stay, 0 for the others; `blocks` [n], the block that a column is in, while the
    columns are in their own order."""

    scales: Tensor
    pinned: Tensor
    low: int
    high: int
    blocks: Tensor | None = None

    def ordered(self, columns: Tensor) -> IntegerLattice:
        return IntegerLattice(self.scales.gather(2, columns), self.pinned.gather(2, columns), self.low, self.high)

    def nearest(self, column: int, values: Tensor) -> Tensor:
        scale, pinned = self.scales[:, :, column], self.pinned[:, :, column]
        integers = (values / scale).round().clamp(self.low, self.high)
        return torch.where(pinned != 0, pinned, integers) * scale


@dataclass(frozen=True)
class TableLattice(Lattice):
    """The entries of tables [T, 2^bits], ascending; `tables` [G, R] says which is an output's."""

    entries: Tensor
    tables: Tensor

    @cached_property
    def chosen(self) -> Tensor:
        """The entries of each output, [G, R, 2^bits]."""
        return self.entries[self.tables]

    @cached_property
    def middles(self) -> Tensor:
        """Between two of them, [G, R, 2^bits - 1]: on either side another one is nearest."""
        return (self.chosen[..., 1:] + self.chosen[..., :-1]) / 2

    def ordered(self, columns: Tensor) -> TableLattice:
        return self

    def nearest(self, column: int, values: Tensor) -> Tensor:
        places = torch.searchsorted(self.middles, values[..., None])
        return self.chosen.gather(2, places)[..., 0]


def lattice_of(grid: Grid, weight: Tensor, moments: Tensor) -> Lattice:
    """The lattice of a layer's weight, its scales or tables chosen by what errors of its numbers cost.

    Args:
        grid: of the target's storage; no pruned table.
        weight: as torch has it, [O, I / G, ...].
        moments: [G, n], the second moment of every input of a group.
    """
    groups, columns = moments.shape
    rows = weight.detach().reshape(groups, -1, columns)
    if grid.kind == "table":
        return _tables(grid, rows, moments)
    inputs, taps = weight.shape[1], weight[0, 0].numel()
    # The number of the block that each of the n numbers of an output is in.
    blocks = (torch.arange(inputs) // (grid.block or inputs)).repeat_interleave(taps)
    scales, pinned = torch.ones_like(rows), torch.zeros_like(rows)
    for number in range(int(blocks.max()) + 1):
        places = (blocks == number).nonzero()[:, 0]
        scale, pinned[:, :, places] = _block(grid, rows[:, :, places], moments[:, None, places])
        scales[:, :, places] = scale.expand(-1, -1, len(places))
    return IntegerLattice(scales, pinned, grid.low, grid.high, blocks)


def _block(grid: Grid, part: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """The scales [G, R, 1] of a block's numbers [G, R, n], and what is pinned of them."""
    extreme = part.abs().argmax(dim=2, keepdim=True)  # [G, R, 1]
    value = part.gather(2, extreme)

    def missed(scale: Tensor, end: Tensor) -> Tensor:
        rounded = (part / scale).round().clamp(grid.low, grid.high).scatter(2, extreme, end) * scale
        return (cost * (rounded - part) ** 2).sum(dim=2, keepdim=True)

    scale, end = cheapest(scales_tried(grid, value), missed)
    return scale, torch.zeros_like(part).scatter_(2, extreme, torch.where(value == 0, 0.0, end))


def scales_tried(grid: Grid, extreme: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The scales that are tried for blocks, by the number of each that is furthest from 0, and the integers at which
    that one then stands."""
    for end, share in itertools.product(_ends(grid, extreme), LEARNED if grid.bits < 8 else (1.0,)):
        yield held_scale(grid, extreme / end * share), end


def _ends(grid: Grid, extreme: Tensor) -> list[Tensor]:
    """The integers at which a block's extreme may stand: the end on its side. Where the range is longer below zero a
    scale may be negative, unless it has to be positive, and either end can be the extreme's."""
    if grid.low == -grid.high or grid.positive:
        return [torch.where(extreme < 0, float(grid.low), float(grid.high))]
    return [torch.full_like(extreme, grid.low), torch.full_like(extreme, grid.high)]


def held_scale(grid: Grid, scale: Tensor) -> Tensor:
    """A scale as the file can hold it; 1 for a block of zeros."""
    held = scale
    if grid.scale_bytes == 2 and grid.bits < 8:
        held = scale.bfloat16().float() if grid.bfloat16 else scale.half().float()
    return nonzero(held)


def _tables(grid: Grid, rows: Tensor, moments: Tensor) -> TableLattice:
    groups, outputs, _ = rows.shape
    together = grid.group or groups * outputs
    flat = rows.flatten(0, 1)  # [O, n]
    cost = moments[:, None, :].expand_as(rows).flatten(0, 1)
    entries = [
        torch.from_numpy(weighted_table(part.numpy(), weights.numpy(), grid.bits)).float()
        for part, weights in zip(flat.split(together), cost.split(together), strict=True)
    ]
    tables = torch.arange(len(flat)) // together
    return TableLattice(torch.stack(entries), tables.reshape(groups, outputs))
