"""A weight as an export without learning stores it: what learned rounding is held against."""

from __future__ import annotations

import torch
from torch import Tensor

from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette
from mobileclip_deploy.targets.grids.train import trainable

__all__ = ["to_nearest"]


@torch.no_grad()
def to_nearest(grid: Grid, weight: Tensor) -> Tensor:
    """The weight [O, I, ...] on its grid, scales or tables as the target chooses them."""
    weight = weight.detach()
    if grid.kind == "float":
        return weight.half().float() if grid.bits == 16 else weight
    if grid.kind != "table":
        return trainable(grid, weight).plain(weight).detach()
    parts = []
    for part in weight.half().split(grid.group or len(weight)):
        table, indices = palette(part.numpy(), grid.bits)
        parts.append(torch.from_numpy(table[indices]).float().reshape(part.shape))
    return torch.cat(parts)
