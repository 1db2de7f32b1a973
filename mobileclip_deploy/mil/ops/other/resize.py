"""Resizing of the last dimensions by sampling on a grid.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/image_resizing.py, iOS16 and iOS17.
"""

from __future__ import annotations

import math

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Ints, Tensor, op
from mobileclip_deploy.mil.types import numel

__all__: list[str] = []


def _grid(size: int, target: int, mode: str) -> Tensor:
    """The positions in [0, size - 1] that `target` samples are taken at: float64 [target]."""
    steps = torch.arange(target, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if target == 1:
            points = torch.full((1,), (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0, dtype=torch.float64)
        else:
            points = steps * ((size - 1) / (target - 1))
    elif mode == "DEFAULT":
        points = steps * ((size - size / target) / (target - 1)) if target > 1 else steps
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / target
        points = 0.5 * delta + steps * delta
    elif mode == "UNALIGN_CORNERS":
        points = (steps + 0.5) * (size / target) - 0.5
    else:
        raise InvalidInput(f"resizing has no sampling mode {mode!r}")
    return points.clamp(0, size - 1)


def _linear(x: Tensor, axis: int, target: int, mode: str) -> Tensor:
    points = _grid(x.shape[axis], target, mode)
    low = points.floor().to(torch.int64)
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    shape = [1] * x.dim()
    shape[axis] = -1
    share = (points - low).to(torch.float32).reshape(shape).to(x.device)
    first, second = (x.index_select(axis, at.to(x.device)) for at in (low, high))
    return first + (second - first) * share


def _nearest(x: Tensor, axis: int, target: int) -> Tensor:
    size = x.shape[axis]
    at = torch.tensor([min(size - 1, i * size // target) for i in range(target)], device=x.device)
    return x.index_select(axis, at)


def _resize(x: Tensor, targets: list[int], linear: bool, mode: str) -> Tensor:
    """Resize the last len(targets) dimensions."""
    shape = (*x.shape[: x.dim() - len(targets)], *targets)
    if len(targets) > x.dim() or any(target < 1 for target in targets):
        raise InvalidInput(f"a value of shape {list(x.shape)} cannot be resized to {targets}")
    numel(shape, "the result of resizing")
    for axis, target in zip(range(-len(targets), 0), targets, strict=True):
        if x.shape[axis] != target:
            x = _linear(x, x.dim() + axis, target, mode) if linear else _nearest(x, x.dim() + axis, target)
    return x


@op("upsample_nearest_neighbor", exact=True)
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """[..., H, W] -> [..., floor(H scale), floor(W scale)], each element repeated."""
    targets = [math.floor(x.shape[-2] * scale_factor_height), math.floor(x.shape[-1] * scale_factor_width)]
    return _resize(x, targets, False, "")


@op("resize_nearest_neighbor", exact=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """[..., H, W] -> [..., target_size_height, target_size_width], each from the element at floor(i H / H')."""
    return _resize(x, [target_size_height, target_size_width], False, "")


@op("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """[..., H, W] -> [..., floor(H scale), floor(W scale)] by linear interpolation along both."""
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and half:
        raise InvalidInput("upsample_bilinear has both align_corners and half_pixel_centers")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    targets = [math.floor(x.shape[-2] * scale_factor_height), math.floor(x.shape[-1] * scale_factor_width)]
    return _resize(x, targets, True, mode)


@op("resize_bilinear")
def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """[..., H, W] -> [..., target_size_height, target_size_width] by linear interpolation along both."""
    return _resize(x, [target_size_height, target_size_width], True, sampling_mode)


@op("resize")
def resize(
    x: Tensor, shape: Ints, resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT"
) -> Tensor:
    """The last `resized_dims` dimensions of x to the last ones of `shape`; a 0 keeps the size."""
    if interpolation_mode not in ("LINEAR", "NEAREST_NEIGHBOR"):
        raise InvalidInput(f"resize has no interpolation mode {interpolation_mode!r}")
    if not 0 < resized_dims <= min(len(shape), x.dim()):
        raise InvalidInput(f"resize has {resized_dims} dimensions of {list(shape)} for a value of rank {x.dim()}")
    kept = x.shape[x.dim() - resized_dims :]
    targets = [want or have for want, have in zip(shape[len(shape) - resized_dims :], kept, strict=True)]
    return _resize(x, targets, interpolation_mode == "LINEAR", sampling_mode)
