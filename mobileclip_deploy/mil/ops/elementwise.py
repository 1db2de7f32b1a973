"""Elementwise ops with numpy's broadcasting: arithmetic, comparison, and casts.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/elementwise_unary.py, elementwise_binary.py and iOS17.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Tensor, broadcast, dtype_named, op
from mobileclip_deploy.mil.types import BY_NAME

__all__ = ["BOOL", "binary", "unary"]


BOOL = BY_NAME["bool"]


def binary(name: str, function: Callable[[Tensor, Tensor], Tensor], *, to_bool: bool = False) -> None:
    """Register an op of two tensors that broadcast."""

    def compute(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    compute.__doc__ = f"{name}(x, y), elementwise."
    op(name, result=BOOL if to_bool else "x", same=("x", "y"), shape=broadcast)(compute)


def unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    """Register an op of one tensor."""

    def compute(x: Tensor) -> Tensor:
        return function(x)

    compute.__doc__ = f"{name}(x), elementwise."
    op(name, shape="x")(compute)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


binary("add", torch.add)
binary("sub", torch.sub)
binary("mul", torch.mul)
binary("real_div", _divide)
binary("equal", torch.eq, to_bool=True)
binary("greater_equal", torch.ge, to_bool=True)

unary("abs", torch.abs)
unary("sqrt", torch.sqrt)
unary("tanh", torch.tanh)  # in no package of ours: tests/faults plants it for sigmoid


@op("clip", shape="x")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(x, alpha), beta)."""
    return torch.clamp(x, alpha, beta)


@op("select", result="a", same=("a", "b"), exact=True, shape=broadcast)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond, else b; the three broadcast."""
    return torch.where(cond.to(torch.bool), a, b)


@op("cast", result=lambda types, values: dtype_named(values["dtype"]), shape="x")
def cast(x: Tensor, dtype: str) -> Tensor:
    """x in another element type: toward zero from float to integer, "not zero" to bool."""
    target = dtype_named(dtype)
    if target.kind == "string":
        raise InvalidInput("a cast to text is not evaluated")
    return x.to(target.compute)
