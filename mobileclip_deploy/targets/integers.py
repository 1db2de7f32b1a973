"""Weights as integers: int8 with a scale a channel, int4 with a scale a block. numpy alone, and deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["int4_blocks", "int8_channels", "pack_int4"]

Floats = npt.NDArray[np.float32]
ROWS = 4096
# Scales that are tried for a block, as shares of the one at which its extreme just fits: cutting an outlier off costs
# less than a coarser step for all others, and a negative scale mirrors the range, which reaches one step further down.
# At 8/7 a block that `recover` trained, whose extreme is 7 steps, finds its own scale.
TRIED = np.append(np.linspace(1.15, 0.6, 23), 8 / 7)
SHARES = np.concatenate([TRIED, -TRIED]).astype(np.float32)


def int8_channels(values: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric int8 in -127 ... 127, one scale for each index of `axis`.

    Returns:
        Integers of the same shape, and float32 scales with every other dimension 1: `integers * scales` is near
        `values`. A channel of zeros has scale 1.
    """
    others = tuple(dim for dim in range(values.ndim) if dim != axis % values.ndim)
    scales = _nonzero(np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127))
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales


def int4_blocks(rows: npt.NDArray[Any], block: int, positive: bool = False) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric int4 in -8 ... 7 of rows [N, K], one scale a block along K (the last block may be shorter).

    The scale of a block is, of several, the one with the smallest squared error. It is a float16 number, so that it
    can be stored as one.

    Args:
        positive: only scales above 0, for formats that take no others.

    Returns:
        int8 [N, B, block] that hold four bits each (padded with 0), and float32 scales [N, B].
    """
    # Piece by piece: a table of 49,408 rows would be held in ten copies.
    parts = [_int4_blocks(rows[start : start + ROWS], block, positive) for start in range(0, len(rows), ROWS)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _int4_blocks(rows: npt.NDArray[Any], block: int, positive: bool) -> tuple[npt.NDArray[np.int8], Floats]:
    count, length = rows.shape
    blocks = -(-length // block)
    padded = np.zeros((count, blocks * block), np.float32)
    padded[:, :length] = rows
    padded = padded.reshape(count, blocks, block)
    extreme = np.take_along_axis(padded, np.abs(padded).argmax(axis=2, keepdims=True), axis=2)
    best = np.zeros_like(padded, np.int8)
    scales = np.ones((count, blocks, 1), np.float32)
    error = np.full((count, blocks, 1), np.inf, np.float32)
    if positive:
        extreme = -np.abs(extreme)
    for share in TRIED.astype(np.float32) if positive else SHARES:
        scale = _nonzero((extreme * share / np.float32(-8)).astype(np.float16).astype(np.float32))
        found = np.clip(np.rint(padded / scale), -8, 7)
        missed = ((found * scale - padded) ** 2).sum(axis=2, keepdims=True)
        better = missed < error
        best = np.where(better, found, best).astype(np.int8)
        scales = np.where(better, scale, scales)
        error = np.where(better, missed, error)
    return best, scales[..., 0]


def pack_int4(values: npt.NDArray[np.int8], offset: int) -> npt.NDArray[np.uint8]:
    """Four-bit integers [..., 2 M] plus `offset`, two a byte, the first in the lower half: uint8 [..., M]."""
    halves = (values.astype(np.int16) + offset).astype(np.uint8) & 0xF
    return (halves[..., 0::2] | (halves[..., 1::2] << 4)).astype(np.uint8)


def _nonzero(scales: Floats) -> Floats:
    return np.where(scales == 0, np.float32(1), scales).astype(np.float32)
