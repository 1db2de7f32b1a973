"""Products of matrices by an equation.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/linear.py.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Tensor, Tensors, op

__all__: list[str] = []


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
