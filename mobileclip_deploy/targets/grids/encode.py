"""Weights as integers: int8 with one scale per channel, int4 with one scale per block. Deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette

ROWS = 4096


def int8_channels(values: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric int8 in -127 ... 127, one scale for each index of `axis`.

    Returns:
        Integers of the same shape, and float32 scales with every other dimension 1: `integers * scales` is near
        `values`. A channel of zeros has scale 1.
    """
    others = tuple(dim for dim in range(values.ndim) if dim != axis % values.ndim)
    scales = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127)
    scales[scales == 0] = 1
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales


def int4_blocks(rows: npt.NDArray[Any], block: int, positive: bool = False) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric int4 in -8 ... 7 of rows [N, K], one scale per block along K (the last block may be shorter).

    The scale of a block is, of several, the one with the smallest squared error. It is a float16 number, so that it
    can be stored as one.

    Args:
        positive: only scales above 0, for formats that take no others.

    Returns:
        int8 [N, B, block] that hold four bits each (padded with 0), and float32 scales [N, B].
    """
    # Piece by piece: a table of many tokens would be held in ten copies.
    parts = [_int4_blocks(rows[start : start + ROWS], block, positive) for start in range(0, len(rows), ROWS)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _int4_blocks(rows: npt.NDArray[Any], block: int, positive: bool) -> tuple[npt.NDArray[np.int8], Floats]:
    count, length = rows.shape
    blocks = -(-length // block)
    padded = np.zeros((count, blocks * block), np.float32)
    padded[:, :length] = rows
    padded = padded.reshape(count, blocks, block)
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(axis=2, keepdims=True), axis=2)
    if positive:
        extreme = -np.abs(extreme)
    # A negative scale mirrors the range, which reaches one step further down.
    shares = REACHED if positive else (*REACHED, *(-share for share in REACHED))
    trials = ((extreme * share / np.float32(-8)).astype(np.float16).astype(np.float32) for share in shares)

    def found(scale: Floats) -> Floats:
        return np.clip(np.rint(padded / scale), -8, 7)

    def missed(scale: Tensor) -> Tensor:  # numpy's sum: its last bits decide between scales that are as good
        steps = scale.numpy()
        return torch.from_numpy(((found(steps) * steps - padded) ** 2).sum(axis=2, keepdims=True))

    (best,) = cheapest(((nonzero(torch.from_numpy(scale)),) for scale in trials), missed)
    return found(best.numpy()).astype(np.int8), best.numpy()[..., 0]


def integers_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Integers int8 [...] and their scales float16 of the same rank: one per output, or one per block of inputs.

    A scale is rounded to float16 before numbers are divided by it. At 4 bits it is, of several, the one with the
    smallest squared error.
    """
    inputs_axis = 1 - grid.axis
    blocks = 1 if grid.block is None else values.shape[inputs_axis] // grid.block
    # [O, I, kh, kw] -> [O, blocks, I / blocks, kh, kw]: the extreme of each block
    split = values.unflatten(inputs_axis, (blocks, -1))
    kept = {grid.axis if grid.axis < inputs_axis else grid.axis + 1, inputs_axis}
    others = tuple(dim for dim in range(split.ndim) if dim not in kept)
    extreme = split.abs().amax(dim=others, keepdim=True)
    trials = (nonzero((extreme * (share / grid.high)).half().float()) for share in (CUT if grid.bits == 4 else (1.0,)))

    def found(scale: Tensor) -> Tensor:
        return (split / scale).round().clamp(grid.low, grid.high)

    def missed(scale: Tensor) -> Tensor:
        return ((found(scale) * scale - split) ** 2).sum(dim=others, keepdim=True)

    (scale,) = cheapest(((trial,) for trial in trials), missed)
    return found(scale).to(torch.int8).reshape(values.shape), scale.half().squeeze(inputs_axis + 1)


def tables_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Indices uint8 [...] and tables float16 [groups in each dimension, 2^bits, 1] of a weight: one table for all, or
    one per group of outputs."""
    groups = 1 if grid.group is None else values.shape[grid.axis] // grid.group
    numbers = values.half().numpy()
    indices = np.empty(numbers.shape, np.uint8)
    lut = np.empty((groups, 2**grid.bits), np.float16)
    for group, part in enumerate(np.split(np.arange(values.shape[grid.axis]), groups)):
        place = (slice(None),) * grid.axis + (slice(part[0], part[-1] + 1),)
        lut[group], found = palette(numbers[place], grid.bits)
        indices[place] = found.reshape(numbers[place].shape)
    shape = [1] * values.ndim
    shape[grid.axis] = groups
    return torch.from_numpy(indices), torch.from_numpy(lut.reshape(*shape, -1, 1))


def pack_int4(values: npt.NDArray[np.int8], offset: int) -> npt.NDArray[np.uint8]:
    """Four-bit integers [..., 2 M] plus `offset`, two per byte, the first in the lower half: uint8 [..., M]."""
    halves = (values.astype(np.int16) + offset).astype(np.uint8) & 0xF
    return (halves[..., 0::2] | (halves[..., 1::2] << 4)).astype(np.uint8)


# An outlier that is cut off costs its block less than a coarser step for all other numbers. Trials are shares of the
# scale at which the block's extreme just fits. What wrote files, and what trained for them, each tried its own: a file
# written again has to have the same bytes.

# Core AI's. Without them nano lost 0.5 points of recall@1 at w4p and 1.5 at w4; with them, none and 0.7.
CUT = tuple(1 - 0.025 * step for step in range(13))
# ONNX's and LiteRT's. The extreme stands at -8: above 1 the range ends beyond it. At 8/7 a block that `recover`
# trained, whose extreme is 7 steps, finds its own scale.
REACHED = tuple(np.append(np.linspace(1.15, 0.6, 23), 8 / 7).astype(np.float32))
# Where training starts for symmetric integers.
TRAINED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
# Learned rounding's.
LEARNED = tuple(1.075 - 0.025 * step for step in range(20))


def cheapest(trials: Iterable[tuple[Tensor, ...]], missed: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    """For each block the trial that misses least; of equal ones the first.

    Args:
        trials: values per block, one or several tensors of one shape.
        missed: what a trial costs each block, in that shape.
    """
    best: tuple[Tensor, ...] = ()
    least = torch.tensor(torch.inf)
    for trial in trials:
        cost = missed(*trial)
        better = cost < least
        best = tuple(torch.where(better, new, old) for new, old in zip(trial, best or trial, strict=True))
        least = torch.where(better, cost, least)
    return best


def nonzero(scale: Tensor) -> Tensor:
    """Scales to divide by: 1 where one is 0."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)
