"""Ops that only rearrange: a matrix of everything, and blocks of pixels.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/tensor_transformation.py (and iOS16, iOS17).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.ops.registry import Tensor, op
from mobileclip_deploy.mil.types import BY_NAME

__all__: list[str] = []


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
