"""Lattice of a weight: the values that its elements can take, with scales or tables chosen and fixed.

A target derives scales and tables from the elements, and must find the same ones again. One element of every block is
therefore at the end of the integers' range. A table has no more entries than the target's.
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
    """Allowed values of each element of a weight [G, R, n]."""

    @abstractmethod
    def ordered(self, columns: Tensor) -> Lattice:
        """Returns the lattice with its columns in another order: [G, R, n] of their old indices."""

    @abstractmethod
    def nearest(self, column: int, values: Tensor) -> Tensor:
        """Returns the allowed value nearest to each value [G, R] of a column."""

    def all_nearest(self, values: Tensor) -> Tensor:
        """Returns the nearest allowed values of every column, [G, R, n]."""
        return torch.stack([self.nearest(column, values[:, :, column]) for column in range(values.shape[2])], dim=2)


@dataclass(frozen=True)
class IntegerLattice(Lattice):
    """Integers times a scale.

    Attributes:
        scales: scale of each element's block, [G, R, n].
        pinned: integer at which a block's extreme element must stay, [G, R, n]; 0 for other elements.
        blocks: block of each column, [n], while the columns are in their original order.
    """

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
    """Entries of tables [T, 2^bits], ascending; `tables` [G, R] is the table of each output."""

    entries: Tensor
    tables: Tensor

    @cached_property
    def chosen(self) -> Tensor:
        """Entries of each output's table, [G, R, 2^bits]."""
        return self.entries[self.tables]

    @cached_property
    def middles(self) -> Tensor:
        """Midpoints of neighbouring entries, [G, R, 2^bits - 1], at which the nearest entry changes."""
        return (self.chosen[..., 1:] + self.chosen[..., :-1]) / 2

    def ordered(self, columns: Tensor) -> TableLattice:
        return self

    def nearest(self, column: int, values: Tensor) -> Tensor:
        indices = torch.searchsorted(self.middles, values[..., None])
        return self.chosen.gather(2, indices)[..., 0]


def lattice_of(grid: Grid, weight: Tensor, moments: Tensor) -> Lattice:
    """Returns the lattice of a layer's weight, with scales or tables that minimise the cost of its elements' errors.

    Args:
        grid: of the target's storage; not a pruned table.
        weight: in torch's layout, [O, I / G, ...].
        moments: [G, n], the second moment of every input of a group.
    """
    groups, columns = moments.shape
    rows = weight.detach().reshape(groups, -1, columns)
    if grid.kind == "table":
        return _tables(grid, rows, moments)
    inputs, taps = weight.shape[1], weight[0, 0].numel()
    # Block index of each of the n elements of an output.
    blocks = (torch.arange(inputs) // (grid.block or inputs)).repeat_interleave(taps)
    scales, pinned = torch.ones_like(rows), torch.zeros_like(rows)
    for index in range(int(blocks.max()) + 1):
        members = (blocks == index).nonzero()[:, 0]
        scale, pinned[:, :, members] = _block(grid, rows[:, :, members], moments[:, None, members])
        scales[:, :, members] = scale.expand(-1, -1, len(members))
    return IntegerLattice(scales, pinned, grid.low, grid.high, blocks)


def _block(grid: Grid, part: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the scales [G, R, 1] of a block's elements [G, R, n], and their pinned integers."""
    extreme = part.abs().argmax(dim=2, keepdim=True)  # [G, R, 1]
    value = part.gather(2, extreme)

    def missed(scale: Tensor, end: Tensor) -> Tensor:
        rounded = (part / scale).round().clamp(grid.low, grid.high).scatter(2, extreme, end) * scale
        return (cost * (rounded - part) ** 2).sum(dim=2, keepdim=True)

    scale, end = cheapest(scales_tried(grid, value), missed)
    return scale, torch.zeros_like(part).scatter_(2, extreme, torch.where(value == 0, 0.0, end))


def scales_tried(grid: Grid, extreme: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields candidate scales of blocks, and the integers at which their extreme elements then are. `extreme` has the
    element furthest from 0 of each block."""
    for end, share in itertools.product(_ends(grid, extreme), LEARNED if grid.bits < 8 else (1.0,)):
        yield held_scale(grid, extreme / end * share), end


def _ends(grid: Grid, extreme: Tensor) -> list[Tensor]:
    """Returns the integers at which a block's extreme may be: the end on its side. If the range is longer below zero
    and scales may be negative, both ends are candidates."""
    if grid.low == -grid.high or grid.positive:
        return [torch.where(extreme < 0, float(grid.low), float(grid.high))]
    return [torch.full_like(extreme, grid.low), torch.full_like(extreme, grid.high)]


def held_scale(grid: Grid, scale: Tensor) -> Tensor:
    """Returns a scale as the file can hold it; 1 for a block of zeros."""
    stored = scale
    if grid.scale_bytes == 2 and grid.bits < 8:
        stored = scale.bfloat16().float() if grid.bfloat16 else scale.half().float()
    return nonzero(stored)


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
