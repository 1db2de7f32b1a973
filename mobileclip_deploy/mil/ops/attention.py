"""Products of matrices: linear, matmul and fused attention.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/linear.py and iOS18/transformers.py.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Shape, Shapes, Tensor, Values, op

__all__: list[str] = []


def _linear_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (weight,) = shapes["x"], shapes["weight"]
    if len(weight) != 2 or x[-1:] != weight[1:] or shapes.get("bias", (weight[:1],)) != (weight[:1],):
        raise InvalidInput(f"linear has an input {list(x)} and a weight {list(weight)} that do not fit")
    return (*x[:-1], weight[0])


@op("linear", shape=_linear_shape)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias: x [..., D_in], weight [D_out, D_in], bias [D_out] or absent -> [..., D_out]."""
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
    """x y over the last two dimensions, the others broadcast; either may be transposed first."""
    if transpose_x:
        x = x.transpose(-1, -2)
    if transpose_y:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


def _attention_shape(shapes: Shapes, values: Values) -> Shape:
    return (*shapes["query"][0][:-1], *shapes["value"][0][-1:])


@op("scaled_dot_product_attention", result="query", same=("query", "key", "value"), shape=_attention_shape)
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(E) + mask) V.

    Args:
        query: [B, ..., L, E].
        key: [B, ..., S, E].
        value: [B, ..., S, EV].
        attn_mask: broadcastable to [B, ..., L, S]; bool (True takes part) or added to the scores.

    Returns:
        [B, ..., L, EV].
    """
    return F.scaled_dot_product_attention(query, key, value, attn_mask)
