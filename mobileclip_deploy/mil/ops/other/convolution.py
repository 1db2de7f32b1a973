"""Transposed convolutions and pooling over one to three spatial dimensions.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/conv.py and pool.py; the padding of "same" as in
defs/_utils.py (`aggregated_pad`): as in TensorFlow, the odd element goes to the end, with "same_lower" to the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.convolution import Pads, halves, padded, paddings, per_dimension, spatial_rank, windows
from mobileclip_deploy.mil.ops.registry import Ints, Shape, Shapes, Tensor, Values, op
from mobileclip_deploy.mil.types import numel

__all__: list[str] = []


_TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@op("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Transposed convolution: x [N, C_in, *D], weight [C_in, C_out / groups, *K] -> [N, C_out, *D_out].

    The full result of size (D - 1) * stride + (K - 1) * dilation + 1 is cropped by the padding; where `output_shape`
    asks for more than is left, the rest is zero before the bias.
    """
    rank = spatial_rank(x.dim(), weight.dim())
    strides = per_dimension(strides, rank, 1, "strides")
    dilations = per_dimension(dilations, rank, 1, "dilations")
    sizes = [
        (n - 1) * s + (k - 1) * d + 1
        for n, k, s, d in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True)
    ]
    numel((x.shape[0], weight.shape[1] * groups, *sizes), "the result of conv_transpose")
    full = _TRANSPOSED[rank](x, weight, None, strides, 0, 0, groups, dilations)
    wanted = list(output_shape[2:]) if output_shape is not None else None
    crops: Pads = []
    for i, size in enumerate(full.shape[2:]):
        if pad_type == "custom":
            before, after = pad[2 * i : 2 * i + 2] if pad is not None else (0, 0)
            target = wanted[i] if wanted is not None else size - before - after
        elif pad_type in ("same", "same_lower"):
            target = wanted[i] if wanted is not None else x.shape[2 + i] * strides[i]
            before = halves(max(0, size - target), pad_type == "same_lower")[0]
        else:
            target, before = (wanted[i] if wanted is not None else size), 0
        crops.append((-before, target + before - size))
    result = padded(full, crops, 0.0)
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def _pool(
    shape: Sequence[int], kernel: Ints, strides: Ints | None, pad_type: str, pad: Ints | None, ceil_mode: bool
) -> tuple[Ints, Pads, Pads]:
    """Strides, padding, and padding with what ceil_mode adds at the end."""
    rank = len(shape) - 2
    if rank not in _MAX or len(kernel) != rank:
        raise InvalidInput(f"pooling of rank {len(shape)} with the window {list(kernel)} is not defined")
    strides = per_dimension(strides, rank, 1, "strides")
    pads = paddings(shape[2:], kernel, strides, (1,) * rank, pad_type, pad)
    if not ceil_mode:
        return strides, pads, pads
    extended: Pads = []
    for size, extent, stride, (before, after) in zip(shape[2:], kernel, strides, pads, strict=True):
        count = -(-(size + before + after - extent) // stride) + 1
        if before + after > 0 and (count - 1) * stride >= size + before:
            count -= 1
        extended.append((before, max(after, (count - 1) * stride + extent - size - before)))
    return strides, pads, extended


def _pool_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), kernel = shapes["x"], values["kernel_sizes"]
    strides, _, pads = _pool(
        x, kernel, values.get("strides"), values["pad_type"], values.get("pad"), values.get("ceil_mode", False)
    )
    return (*x[:2], *windows(x[2:], kernel, strides, pads))


@op("max_pool", shape=_pool_shape)
def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The maximum of each window, padding left out: x [N, C, *D] -> [N, C, *D_out]."""
    strides, _, extended = _pool(x.shape, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return _MAX[x.dim() - 2](padded(x, extended, -math.inf), kernel_sizes, strides)


@op("avg_pool", shape=_pool_shape)
def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """The mean of each window, with padded zeros counted unless excluded: x [N, C, *D] -> [N, C, *D_out].

    Elements beyond the padding, which ceil_mode adds, never count.
    """
    strides, pads, extended = _pool(x.shape, kernel_sizes, strides, pad_type, pad, ceil_mode)
    average = _AVG[x.dim() - 2]
    mean = average(padded(x, extended, 0.0), kernel_sizes, strides)
    if extended == pads and not (exclude_padding_from_average and any(any(pair) for pair in pads)):
        return mean
    counted = x.new_ones((1, 1, *x.shape[2:]))
    inner = [(0, 0)] * len(pads) if exclude_padding_from_average else pads
    outer = [(e[0] - i[0], e[1] - i[1]) for e, i in zip(extended, inner, strict=True)]
    share = average(padded(padded(counted, inner, 1.0), outer, 0.0), kernel_sizes, strides)
    return mean / share


@op("l2_pool", shape=_pool_shape)
def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The root of the sum of squares of each window: x [N, C, *D] -> [N, C, *D_out]."""
    strides, _, extended = _pool(x.shape, kernel_sizes, strides, pad_type, pad, ceil_mode)
    mean = _AVG[x.dim() - 2](padded(x.square(), extended, 0.0), kernel_sizes, strides)
    return torch.sqrt(mean * math.prod(kernel_sizes))
