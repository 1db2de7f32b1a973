"""Rounding of a weight to the nearest values of its grid, as an export without learned rounding stores it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.targets.grids.decode import Tables
from mobileclip_deploy.targets.grids.encode import int4_blocks, nonzero, tables_of
from mobileclip_deploy.targets.grids.grid import Grid


@torch.no_grad()
def to_nearest(grid: Grid, weight: Tensor) -> Tensor:
    """Rounds a weight [O, I, ...] with the target's choice of scales and tables."""
    weight = weight.detach()
    if grid.kind == "float":
        return weight.half().float() if grid.bits == 16 else weight
    if grid.kind == "table":
        indices, tables = tables_of(weight, grid)
        return torch.from_numpy(Tables(tables[..., 0].numpy()).restored(indices.numpy()))
    flat, taps = weight.flatten(1), weight[0, 0].numel()
    length = flat.shape[1] if grid.block is None else grid.block * taps
    # The last block of an output may be shorter: it is filled up with zeros, which round to themselves.
    blocks = F.pad(flat, (0, -flat.shape[1] % length)).unflatten(1, (-1, length))
    if grid.block is None or grid.low == -grid.high:
        scales = nonzero(blocks.abs().amax(dim=2, keepdim=True) / grid.high)
    else:
        scales = torch.from_numpy(int4_blocks(flat.numpy(), length, grid.positive)[1])[..., None]
        scales = scales.bfloat16().float() if grid.bfloat16 else scales
    rounded = (blocks / scales).round().clamp(grid.low, grid.high) * scales
    return rounded.flatten(1)[:, : flat.shape[1]].reshape(weight.shape)
