"""Products of matrices: linear, matmul, einsum and fused attention.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/linear.py and iOS18/transformers.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Tensor, Tensors, op

__all__: list[str] = []


@op("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias: x [..., D_in], weight [D_out, D_in], bias [D_out] or absent -> [..., D_out]."""
    return F.linear(x, weight, bias)


@op("matmul", same=("x", "y"))
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """x y over the last two dimensions, the others broadcast; either may be transposed first."""
    if transpose_x:
        x = x.transpose(-1, -2)
    if transpose_y:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


@op("einsum", result="values")
def einsum(values: Tensors, equation: str) -> Tensor:
    """The two forms that MIL allows, "nchw,nwhu->nchu" and "chw,whr->chr" up to renaming; n and h broadcast."""
    try:
        inputs, output = equation.replace(" ", "").split("->")
        first, second = inputs.split(",")
        x, y = values
    except ValueError:
        raise InvalidInput(f"einsum of {len(values)} tensors has the equation {equation!r}") from None
    letters = dict(zip(reversed(first), "whcn", strict=False))
    renamed = tuple("".join(letters.get(letter, "u") for letter in part) for part in (first, second, output))
    if renamed not in {("nchw", "nwhu", "nchu"), ("chw", "whu", "chu")} or x.dim() != len(first):
        raise InvalidInput(f"einsum has the equation {equation!r}, which MIL does not define")
    product = torch.matmul(x.transpose(-3, -2), y.transpose(-3, -2))  # [n, h, c, w] x [n, h, w, u]
    return product.transpose(-3, -2)


@op("scaled_dot_product_attention", result="query", same=("query", "key", "value"))
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
