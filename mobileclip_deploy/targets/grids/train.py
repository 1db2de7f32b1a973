"""Quantization grids that a weight can be trained on: every export stores a weight on such a grid as the same integers.

Each is a parametrization (torch.nn.utils.parametrize): forward rounds, backward passes the gradient through.

A target derives scales and tables from the elements, and must find those of the training again. At least one element of
every block is therefore at the end of its range. A table has no more entries than the target's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.targets.grids.decode import Tables
from mobileclip_deploy.targets.grids.encode import TRAINED, cheapest, int4_blocks, tables_of
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette

SMALLEST = 0.25


class TrainableGrid(nn.Module, ABC):
    """Rounds a weight to values of `bits`; `stored` is the corresponding grid of the target's storage."""

    bits: int
    stored: Grid

    @abstractmethod
    def codes(self, weight: Tensor) -> Tensor:
        """Returns the integers of a weight: int8 symmetric, or uint8 indices into a table; of the weight's shape."""

    def plain(self, weight: Tensor) -> Tensor:
        """Returns the weight that the grid was made for, as an export without training stores it."""
        values: Tensor = self(weight)  # correct only before training
        return values.detach()


class _Blocks(TrainableGrid):
    """Integers of a weight [O, I, ...], one scale per block of `block` inputs of each output (None: of all inputs).

    The integers are `low` ... `high`. A block's scale puts its largest value at `steps`, times a share between
    `SMALLEST` and `most`.
    """

    low: int
    high: int
    steps: int
    most: float
    share: Tensor

    def __init__(self, weight: Tensor, bits: int, block: int | None) -> None:
        super().__init__()
        self.bits, self.block = bits, block
        # The last block of an output may be shorter: it is filled up with zeros, which round to themselves.
        self.blocks = 1 if block is None else -(-weight.shape[1] // block)
        taps = weight[0, 0].numel()
        self.padding = 0 if block is None else (self.blocks * block - weight.shape[1]) * taps

    def forward(self, weight: Tensor) -> Tensor:
        rows = self._rows(weight)
        scale = self._scale(rows, self.share)
        scaled = (rows / scale).clamp(self.low, self.high)
        rounded = scaled + (scaled.round() - scaled).detach()
        return self._back(rounded * scale, weight)

    def codes(self, weight: Tensor) -> Tensor:
        rows = self._rows(weight.detach())
        codes = (rows / self._scale(rows, self.share)).round().clamp(self.low, self.high)
        return self._back(codes.to(torch.int8), weight)

    def _rows(self, weight: Tensor) -> Tensor:
        """Returns [O, blocks, elements of a block]."""
        return F.pad(weight.flatten(1), (0, self.padding)).reshape(weight.shape[0], self.blocks, -1)

    def _back(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Reshapes [O, blocks, elements of a block] to the weight's shape."""
        return rows.flatten(1)[:, : weight[0].numel()].reshape(weight.shape)

    def _scale(self, rows: Tensor, share: Tensor) -> Tensor:
        largest = rows.detach().abs().amax(dim=2, keepdim=True)
        return torch.where(largest == 0, 1.0, largest / self.steps * share.clamp(SMALLEST, self.most))


class BlockGrid(_Blocks):
    """Symmetric integers: -7 ... 7 for 4 bits, -127 ... 127 for 8.

    Below 8 bits the share of the largest value that the scale reaches is trained.
    """

    most = 1.0

    def __init__(self, weight: Tensor, bits: int, block: int | None) -> None:
        super().__init__(weight, bits, block)
        self.high = self.steps = 2 ** (bits - 1) - 1
        self.low = -self.high
        if bits < 8:
            rows = self._rows(weight.detach())

            def missed(share: Tensor) -> Tensor:
                scale = self._scale(rows, share)
                rounded = (rows / scale).round().clamp(self.low, self.high) * scale
                return ((rounded - rows) ** 2).sum(dim=2, keepdim=True)

            # The share with the smallest squared error of each block: [O, blocks, 1].
            (best,) = cheapest(((torch.full_like(rows[..., :1], share),) for share in TRAINED), missed)
            self.share = nn.Parameter(best)
        else:
            self.register_buffer("share", torch.ones(weight.shape[0], self.blocks, 1))

    def plain(self, weight: Tensor) -> Tensor:
        rows = self._rows(weight)
        scale = self._scale(rows, torch.ones(()))
        return self._back((rows / scale).round() * scale, weight)


class SearchedGrid(_Blocks):
    """int4 in -8 ... 7 with scales as the runtime takes them: of either sign for ONNX Runtime, positive for Core AI,
    positive bfloat16 for XNNPACK in LiteRT.

    The export searches a block's scale for the smallest error (`encode.int4_blocks`), and training starts there. The
    largest value of a block is 8 or 7 steps out, and that search tries both.
    """

    low, high, steps, most = -8, 7, 8, 1.2
    sign: Tensor

    def __init__(self, weight: Tensor, block: int, positive: bool = False, bfloat16: bool = False) -> None:
        super().__init__(weight, 4, block)
        self.in_bfloat16 = bfloat16
        rows = weight.detach().flatten(1).numpy()
        scales = torch.from_numpy(int4_blocks(rows, block * weight[0, 0].numel(), positive)[1])[..., None]
        largest = self._rows(weight.detach()).abs().amax(dim=2, keepdim=True)
        share = torch.where(largest == 0, torch.ones_like(scales), scales.abs() * self.steps / largest)
        self.register_buffer("sign", scales.sign())
        self.share = nn.Parameter(share)

    def codes(self, weight: Tensor) -> Tensor:
        """Returns the integers for positive scales, -8 ... 8. An artifact stores them times the sign of their scale."""
        return self._back(self._rows(super().codes(weight)) * self.sign.to(torch.int8), weight)

    def _scale(self, rows: Tensor, share: Tensor) -> Tensor:
        scale = self.sign * super()._scale(rows, share)
        return scale.bfloat16().float() if self.in_bfloat16 else scale


class PaletteGrid(TrainableGrid):
    """Tables [T, 2^bits] of float16 values, one per `group` of outputs (None: of all).

    In training, every forward pass moves each entry to the mean of its nearest values (a step of Lloyd's algorithm).
    """

    tables: Tensor

    def __init__(self, weight: Tensor, bits: int, group: int | None = None) -> None:
        super().__init__()
        self.bits = bits
        entries = [palette(part.numpy(), bits)[0] for part in weight.detach().split(group or len(weight))]
        self.register_buffer("tables", torch.from_numpy(np.stack(entries)).float().sort(dim=1).values)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            nearest = self._nearest(weight)
            if self.training:
                self._move(weight, nearest)
            rounded = self._at(nearest, weight)
        return weight + (rounded - weight).detach()

    def codes(self, weight: Tensor) -> Tensor:
        return self._nearest(weight.detach()).to(torch.uint8).reshape(weight.shape)

    def plain(self, weight: Tensor) -> Tensor:
        return self._at(self._nearest(weight), weight)

    def _entries(self) -> Tensor:
        return self.tables.half().float()

    def _at(self, nearest: Tensor, weight: Tensor) -> Tensor:
        return self._entries().gather(1, nearest).reshape(weight.shape)

    def _nearest(self, weight: Tensor) -> Tensor:
        """Returns each element's index [T, N] in its table; the elements that share a table are one row."""
        entries = self._entries()
        middles = (entries[:, 1:] + entries[:, :-1]) / 2
        return torch.searchsorted(middles, weight.reshape(len(entries), -1))

    def _move(self, weight: Tensor, nearest: Tensor) -> None:
        counts, sums = torch.zeros_like(self.tables), torch.zeros_like(self.tables)
        counts.scatter_add_(1, nearest, torch.ones_like(nearest, dtype=counts.dtype))
        sums.scatter_add_(1, nearest, weight.reshape(nearest.shape))
        self.tables.copy_(torch.where(counts > 0, sums / counts.clamp(min=1), self.tables))


def trainable(stored: Grid, weight: Tensor) -> TrainableGrid:
    """Returns the grid to train a weight on, so that an export stores it as `stored` without changing it."""
    grid: TrainableGrid
    if stored.kind == "table":
        grid = PaletteGrid(weight, stored.bits, stored.group)
    elif stored.block is not None and stored.low != -stored.high:
        grid = SearchedGrid(weight, stored.block, stored.positive, stored.bfloat16)
    else:
        grid = BlockGrid(weight, stored.bits, stored.block)
    grid.stored = stored
    return grid


@torch.no_grad()
def to_nearest(grid: Grid, weight: Tensor) -> Tensor:
    """Rounds a weight [O, I, ...] as an export without training stores it, with the target's choice of scales and
    tables."""
    weight = weight.detach()
    if grid.kind == "float":
        return weight.half().float() if grid.bits == 16 else weight
    if grid.kind != "table":
        return trainable(grid, weight).plain(weight).detach()
    indices, tables = tables_of(weight, grid)
    return torch.from_numpy(Tables(tables[..., 0].numpy()).restored(indices.numpy()))
