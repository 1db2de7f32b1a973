"""Position tables of ViT towers: which image size a table is for, and the same table at another size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["METHOD", "grid_side", "resample"]

METHOD = "bicubic, antialiased, class token kept"


def grid_side(rows: int, class_token: bool) -> int | None:
    """The side of the square patch grid that a table of so many rows is for; None when it is not square."""
    patches = rows - class_token
    side = math.isqrt(max(patches, 0))
    return side if side and side * side == patches else None


def resample(table: Tensor, side: int, class_token: bool) -> Tensor:
    """A position table [1? + s * s, C] float32 for a grid of `side` x `side` patches: [1? + side * side, C].

    Bicubic with antialiasing, the class token's row unchanged: what open_clip's `resize_pos_embed` and timm's
    `resample_abs_pos_embed` compute.
    """
    kept, grid = table[: int(class_token)], table[int(class_token) :]
    old = math.isqrt(grid.shape[0])
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)  # [s * s, C] -> [1, C, s, s]
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((kept, grid.permute(0, 2, 3, 1).reshape(side * side, -1)))  # back to rows of C, row by row
