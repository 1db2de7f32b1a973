"""Products: convolutions over two spatial dimensions, linear layers, products of matrices, fused attention.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/conv.py, linear.py and iOS18/transformers.py.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.ops.registry import Ints, Shape, Shapes, Tensor, Values, op
from mobileclip_deploy.targets.mil.types import numel


def _pairs(values: Ints | None, name: str) -> Ints:
    """Returns strides or dilations along height and width."""
    if values is not None and (len(values) != 2 or min(values) < 1):
        raise InvalidInput(f"{name} {list(values)} are not two positive numbers")
    return values or (1, 1)


def _padding(pad_type: str, pad: Ints | None) -> Ints:
    """Returns the padding: rows above and below, columns left and right."""
    if pad_type not in ("valid", "custom"):
        raise InvalidInput(f"padding of type {pad_type!r} is not evaluated")
    sides = pad if pad is not None and pad_type == "custom" else (0,) * 4
    if len(sides) != 4 or min(sides) < 0:
        raise InvalidInput(f"the padding {list(sides)} is not two sizes for each of 2 dimensions")
    return sides


def _conv_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (weight,) = shapes["x"], shapes["weight"]
    if len(x) != 4 or len(weight) != 4:
        raise InvalidInput(f"a convolution of rank {len(x)} with a weight of rank {len(weight)} is not evaluated")
    if x[1] != weight[1] * values.get("groups", 1) or shapes.get("bias", (weight[:1],)) != (weight[:1],):
        raise InvalidInput(f"a convolution of {list(x)} with a weight {list(weight)} does not fit")
    strides, dilations = _pairs(values.get("strides"), "strides"), _pairs(values.get("dilations"), "dilations")
    sides = _padding(values.get("pad_type", "valid"), values.get("pad"))
    padded = [size + sum(sides[2 * i : 2 * i + 2]) for i, size in enumerate(x[2:])]
    numel((*x[:2], *padded), "a padded value")
    reach = [(k - 1) * d + 1 for k, d in zip(weight[2:], dilations, strict=True)]
    return (x[0], weight[0], *((n - r) // s + 1 for n, r, s in zip(padded, reach, strides, strict=True)))


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
    """Computes a convolution: x [N, C_in, H, W], weight [C_out, C_in / groups, KH, KW], bias [C_out] -> [N, C_out, H',
    W']."""
    values = {"groups": groups, "strides": strides, "dilations": dilations, "pad_type": pad_type, "pad": pad}
    _conv_shape({"x": (tuple(x.shape),), "weight": (tuple(weight.shape),)}, values)
    top, bottom, left, right = _padding(pad_type, pad)
    # torch pads both ends alike by itself, without a padded copy of x.
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(x, weight, bias, _pairs(strides, "strides"), (top, left), _pairs(dilations, "dilations"), groups)


def _linear_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (weight,) = shapes["x"], shapes["weight"]
    if len(weight) != 2 or x[-1:] != weight[1:] or shapes.get("bias", (weight[:1],)) != (weight[:1],):
        raise InvalidInput(f"linear has an input {list(x)} and a weight {list(weight)} that do not fit")
    return (*x[:-1], weight[0])


@op("linear", shape=_linear_shape)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes x weight^T + bias: x [..., D_in], weight [D_out, D_in], bias [D_out] or absent -> [..., D_out]."""
    return F.linear(x, weight, bias)


def _matmul_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (y,) = shapes["x"], shapes["y"]
    if len(x) < 2 or len(y) < 2:
        raise InvalidInput(f"matmul of {list(x)} and {list(y)} is not a product of matrices")
    *_, rows, inner = (*x[:-2], x[-1], x[-2]) if values.get("transpose_x", False) else x
    *_, other, columns = (*y[:-2], y[-1], y[-2]) if values.get("transpose_y", False) else y
    if inner != other:
        raise InvalidInput(f"matmul of {list(x)} and {list(y)} does not fit")
    return (*np.broadcast_shapes(x[:-2], y[:-2]), rows, columns)


@op("matmul", same=("x", "y"), shape=_matmul_shape)
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Computes x y over the last two dimensions, the others broadcast; either may be transposed first."""
    return torch.matmul(x.mT if transpose_x else x, y.mT if transpose_y else y)


def _attention_shape(shapes: Shapes, values: Values) -> Shape:
    return (*shapes["query"][0][:-1], *shapes["value"][0][-1:])


@op("scaled_dot_product_attention", result="query", same=("query", "key", "value"), shape=_attention_shape)
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Computes softmax(Q K^T / sqrt(E) + mask) V: query [B, ..., L, E], key [B, ..., S, E], value [B, ..., S, EV] ->
    [B, ..., L, EV]. The mask broadcasts to [B, ..., L, S]: bool (True takes part), or added to the scores."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask)
