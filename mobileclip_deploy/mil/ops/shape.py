"""Ops that only rearrange: reshape, transpose, axes of size 1, and blocks of pixels.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/tensor_transformation.py (and iOS16, iOS17).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Ints, Opset, Tensor, op
from mobileclip_deploy.mil.types import BY_NAME

__all__: list[str] = []


def _zeros(wanted: Ints, shape: tuple[int, ...], opset: int) -> list[int]:
    """Replace each 0 of a wanted shape by the dimension that it stands for."""
    if 0 not in wanted or 0 in shape:
        return list(wanted)
    if opset < 17:
        if len(wanted) != len(shape):
            raise InvalidInput(f"reshape to {list(wanted)} from rank {len(shape)} needs equal ranks for the zeros")
        return [have if want == 0 else want for want, have in zip(wanted, shape, strict=True)]
    # From iOS 17 on, zeros are matched from the right; one without a counterpart is 1.
    padded = (1,) * (len(wanted) - len(shape)) + shape[max(0, len(shape) - len(wanted)) :]
    return [have if want == 0 else want for want, have in zip(wanted, padded, strict=True)]


@op("reshape", exact=True)
def reshape(x: Tensor, shape: Ints, opset: Opset) -> Tensor:
    """x in another shape; one -1 takes what is left, a 0 keeps a dimension of x."""
    return x.reshape(_zeros(shape, tuple(x.shape), opset))


@op("transpose", exact=True)
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """x with its dimensions in the order `perm`."""
    return x.permute(perm)


@op("expand_dims", exact=True)
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """x with dimensions of size 1 at `axes` of the result."""
    rank = x.dim() + len(axes)
    if any(not -rank <= axis < rank for axis in axes):
        raise InvalidInput(f"expand_dims has the axes {list(axes)} for a result of rank {rank}")
    shape = list(x.shape)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return x.reshape(shape)


@op("squeeze", exact=True)
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """x without its dimensions of size 1, or without those among `axes`; other sizes are kept as in torch."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, axes)


@op("flatten2d", exact=True)
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """x as a matrix: the dimensions before `axis` by those from it on."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("shape", result=BY_NAME["int32"], exact=True)
def shape(x: Tensor) -> Tensor:
    """The shape of x: int32 [rank]."""
    return torch.tensor(tuple(x.shape), dtype=torch.int32)


@op("depth_to_space", exact=True)
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """[N, C, H, W] -> [N, C / b^2, H b, W b]; the block index is the outer part of the channel, as in TensorFlow."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


@op("space_to_depth", exact=True)
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """[N, C, H, W] -> [N, C b^2, H / b, W / b], the inverse of depth_to_space."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@op("pixel_shuffle", exact=True)
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """[N, C f^2, H, W] -> [N, C, H f, W f], as torch's PixelShuffle."""
    return F.pixel_shuffle(x, upscale_factor)


@op("pixel_unshuffle", exact=True)
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """[N, C, H f, W f] -> [N, C f^2, H, W], as torch's PixelUnshuffle."""
    return F.pixel_unshuffle(x, downscale_factor)
