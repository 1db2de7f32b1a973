"""Encoding of weights as integers: int8 with one scale per channel, int4 with one scale per block. Deterministic.

`to_nearest` rounds a weight to the values of its grid, as an export without learned rounding stores it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.grids.decode import Tables
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette

ROWS = 4096


def int8_channels(values: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Encodes as symmetric int8 in -127 ... 127, with one scale for each index of `axis`.

    Returns:
        Integers of the same shape, and float32 scales with every other dimension 1: `integers * scales` approximates
            `values`. A channel of zeros has scale 1.
    """
    others = tuple(dim for dim in range(values.ndim) if dim != axis % values.ndim)
    scales = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127)
    scales[scales == 0] = 1
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales


def int4_blocks(rows: npt.NDArray[Any], block: int, positive: bool = False) -> tuple[npt.NDArray[np.int8], Floats]:
    """Encodes rows [N, K] as symmetric int4 in -8 ... 7, with one scale per block along K (the last block may be
    shorter).

    Of several scales of a block, the one with the smallest squared error is chosen. It is representable in float16, so
    that it can be stored as such.

    Args:
        positive: True for formats that take only scales above 0.

    Returns:
        int8 [N, B, block] with four-bit values (padded with 0), and float32 scales [N, B].
    """
    # In pieces: a table of many tokens would need ten copies in memory.
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

    def missed(scale: Tensor) -> Tensor:  # numpy's sum: its last bits decide between equally good scales
        steps = scale.numpy()
        return torch.from_numpy(((found(steps) * steps - padded) ** 2).sum(axis=2, keepdims=True))

    (best,) = cheapest(((nonzero(torch.from_numpy(scale)),) for scale in trials), missed)
    return found(best.numpy()).astype(np.int8), best.numpy()[..., 0]


def integers_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Encodes as int8 integers [...] and float16 scales of the same rank: one per output, or one per block of inputs.

    A scale is rounded to float16 before elements are divided by it. At 4 bits, of several scales the one with the
    smallest squared error is chosen.
    """
    inputs_axis = 1 - grid.axis
    blocks = 1 if grid.block is None else values.shape[inputs_axis] // grid.block
    # [O, I, kh, kw] -> [O, blocks, I / blocks, kh, kw]: the extreme of each block
    split = values.unflatten(inputs_axis, (blocks, -1))
    kept_axes = {grid.axis if grid.axis < inputs_axis else grid.axis + 1, inputs_axis}
    others = tuple(dim for dim in range(split.ndim) if dim not in kept_axes)
    extreme = split.abs().amax(dim=others, keepdim=True)
    trials = (nonzero((extreme * (share / grid.high)).half().float()) for share in (CUT if grid.bits == 4 else (1.0,)))

    def found(scale: Tensor) -> Tensor:
        return (split / scale).round().clamp(grid.low, grid.high)

    def missed(scale: Tensor) -> Tensor:
        return ((found(scale) * scale - split) ** 2).sum(dim=others, keepdim=True)

    (scale,) = cheapest(((trial,) for trial in trials), missed)
    return found(scale).to(torch.int8).reshape(values.shape), scale.half().squeeze(inputs_axis + 1)


def tables_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Encodes as indices uint8 [...] and tables float16 [groups in each dimension, 2^bits, 1]: one table for the
    weight, or one per group of outputs."""
    groups = 1 if grid.group is None else values.shape[grid.axis] // grid.group
    halves = values.half().numpy()
    indices = np.empty(halves.shape, np.uint8)
    lut = np.empty((groups, 2**grid.bits), np.float16)
    for group, part in enumerate(np.split(np.arange(values.shape[grid.axis]), groups)):
        region = (slice(None),) * grid.axis + (slice(part[0], part[-1] + 1),)
        lut[group], nearest = palette(halves[region], grid.bits)
        indices[region] = nearest.reshape(halves[region].shape)
    shape = [1] * values.ndim
    shape[grid.axis] = groups
    return torch.from_numpy(indices), torch.from_numpy(lut.reshape(*shape, -1, 1))


def pack_int4(values: npt.NDArray[np.int8], offset: int) -> npt.NDArray[np.uint8]:
    """Packs four-bit integers [..., 2 M] plus `offset` two per byte, the first in the lower half. Returns uint8 [...,
    M]."""
    halves = (values.astype(np.int16) + offset).astype(np.uint8) & 0xF
    return (halves[..., 0::2] | (halves[..., 1::2] << 4)).astype(np.uint8)


# Clipping an outlier costs its block less than a coarser step for all other elements. Candidates are shares of the
# scale at which the block's extreme just fits. Each format, and learned rounding, has its own list: a file that is
# written again must have the same bytes.

# Core AI's. Without them nano lost 0.5 points of recall@1 at w4p and 1.5 at w4; with them, none and 0.7.
CUT = tuple(1 - 0.025 * step for step in range(13))
# ONNX's and LiteRT's. The extreme is at -8: above 1 the range ends beyond it. At 8/7 a block whose extreme was rounded
# to 7 steps before finds its own scale.
REACHED = tuple(np.append(np.linspace(1.15, 0.6, 23), 8 / 7).astype(np.float32))
# Learned rounding's.
LEARNED = tuple(1.075 - 0.025 * step for step in range(20))


def cheapest(trials: Iterable[tuple[Tensor, ...]], missed: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    """Returns, for each block, the trial with the smallest cost; of equal ones the first.

    Args:
        trials: values per block, one or several tensors of one shape.
        missed: returns the cost of a trial for each block, in that shape.
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
    """Replaces scales of 0 by 1, so that they can be divisors."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)


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
