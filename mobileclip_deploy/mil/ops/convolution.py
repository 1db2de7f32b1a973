"""Convolutions over one to three spatial dimensions.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/conv.py; the padding of "same" as in
defs/_utils.py (`aggregated_pad`): as in TensorFlow, the odd element goes to the end, with "same_lower" to the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Ints, Shape, Shapes, Tensor, Values, op
from mobileclip_deploy.mil.types import numel

__all__ = ["Pads", "halves", "padded", "paddings", "per_dimension", "spatial_rank", "windows"]


Pads = list[tuple[int, int]]
_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def per_dimension(values: Ints | None, rank: int, default: int, name: str) -> Ints:
    """Strides or dilations, one per spatial dimension."""
    if values is None:
        return (default,) * rank
    if len(values) != rank or any(value < 1 for value in values):
        raise InvalidInput(f"{name} {list(values)} are not {rank} positive numbers")
    return values


def halves(total: int, lower: bool) -> tuple[int, int]:
    """Padding before and after; `lower` puts an odd element before."""
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


def paddings(
    size: Sequence[int], kernel: Sequence[int], strides: Ints, dilations: Ints, pad_type: str, pad: Ints | None
) -> Pads:
    """Padding before and after each spatial dimension, as `pad_type` has it."""
    if pad_type == "valid":
        return [(0, 0)] * len(size)
    if pad_type == "custom":
        values = pad if pad is not None else (0,) * (2 * len(size))
        if len(values) != 2 * len(size) or any(value < 0 for value in values):
            raise InvalidInput(f"the padding {list(values)} is not two sizes for each of {len(size)} dimensions")
        return [(values[2 * i], values[2 * i + 1]) for i in range(len(size))]
    if pad_type in ("same", "same_lower"):
        pads = []
        for length, extent, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
            reach = (extent - 1) * dilation + 1  # of a window, from its first to its last element
            total = max(0, stride * math.ceil(length / stride) - length + reach - stride)
            pads.append(halves(total, pad_type == "same_lower"))
        return pads
    raise InvalidInput(f"there is no padding of type {pad_type!r}")


def padded(x: Tensor, pads: Pads, value: float) -> Tensor:
    """x [N, C, *D] with `value` around its spatial dimensions; negative amounts crop."""
    if not any(before or after for before, after in pads):
        return x
    sizes = [size + sum(pair) for size, pair in zip(x.shape[2:], pads, strict=True)]
    numel((*x.shape[:2], *sizes), "a padded value")
    # torch counts from the last dimension: (left, right, top, bottom, ...).
    return F.pad(x, [amount for pair in reversed(pads) for amount in pair], value=value)


def _conv_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (weight,) = shapes["x"], shapes["weight"]
    rank = spatial_rank(len(x), len(weight))
    strides = per_dimension(values.get("strides"), rank, 1, "strides")
    dilations = per_dimension(values.get("dilations"), rank, 1, "dilations")
    pads = paddings(x[2:], weight[2:], strides, dilations, values.get("pad_type", "valid"), values.get("pad"))
    if x[1] != weight[1] * values.get("groups", 1) or shapes.get("bias", (weight[:1],)) != (weight[:1],):
        raise InvalidInput(f"a convolution of {list(x)} with a weight {list(weight)} does not fit")
    reach = [(k - 1) * d + 1 for k, d in zip(weight[2:], dilations, strict=True)]
    return (x[0], weight[0], *windows(x[2:], reach, strides, pads))


def windows(size: Sequence[int], reach: Sequence[int], strides: Ints, pads: Pads) -> list[int]:
    """How often a window fits along each dimension."""
    return [(n + sum(pad) - r) // s + 1 for n, r, s, pad in zip(size, reach, strides, pads, strict=True)]


@op("conv", shape=_conv_shape)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolution: x [N, C_in, *D], weight [C_out, C_in / groups, *K], bias [C_out] -> [N, C_out, *D_out]."""
    rank = spatial_rank(x.dim(), weight.dim())
    strides = per_dimension(strides, rank, 1, "strides")
    dilations = per_dimension(dilations, rank, 1, "dilations")
    pads = paddings(x.shape[2:], weight.shape[2:], strides, dilations, pad_type, pad)
    # torch pads both ends alike by itself, without a padded copy of x.
    if all(before == after for before, after in pads):
        numel((*x.shape[:2], *(n + 2 * p for n, (p, _) in zip(x.shape[2:], pads, strict=True))), "a padded value")
        padding = [before for before, _ in pads]
    else:
        x, padding = padded(x, pads, 0.0), [0] * rank
    return _CONV[rank](x, weight, bias, strides, padding, dilations, groups)


def spatial_rank(x: int, weight: int) -> int:
    """How many spatial dimensions x and weight have, by their ranks."""
    if x - 2 not in _CONV or weight != x:
        raise InvalidInput(f"a convolution of rank {x} with a weight of rank {weight} is not defined")
    return x - 2
