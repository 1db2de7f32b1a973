"""Elementwise ops with numpy's broadcasting: arithmetic, comparison, logic, roots and logarithms, and casts.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/elementwise_unary.py, elementwise_binary.py and iOS17.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Tensor, broadcast, dtype_named, op
from mobileclip_deploy.mil.types import BY_NAME

__all__: list[str] = []

_BOOL = BY_NAME["bool"]


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor], *, to_bool: bool = False) -> None:
    def compute(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    compute.__doc__ = f"{name}(x, y), elementwise."
    op(name, result=_BOOL if to_bool else "x", same=("x", "y"), shape=broadcast)(compute)


def _unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def compute(x: Tensor) -> Tensor:
        return function(x)

    compute.__doc__ = f"{name}(x), elementwise."
    op(name, shape="x")(compute)


def _divide(x: Tensor, y: Tensor) -> Tensor:
    if x.is_floating_point():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


_binary("add", torch.add)
_binary("sub", torch.sub)
_binary("mul", torch.mul)
_binary("real_div", _divide)
_binary("floor_div", torch.floor_divide)
_binary("mod", torch.remainder)
_binary("pow", torch.pow)
_binary("maximum", torch.maximum)
_binary("minimum", torch.minimum)
_binary("equal", torch.eq, to_bool=True)
_binary("not_equal", torch.ne, to_bool=True)
_binary("greater", torch.gt, to_bool=True)
_binary("greater_equal", torch.ge, to_bool=True)
_binary("less", torch.lt, to_bool=True)
_binary("less_equal", torch.le, to_bool=True)
_binary("logical_and", torch.logical_and, to_bool=True)
_binary("logical_or", torch.logical_or, to_bool=True)
_binary("logical_xor", torch.logical_xor, to_bool=True)

_unary("abs", torch.abs)
_unary("acos", torch.acos)
_unary("asin", torch.asin)
_unary("atan", torch.atan)
_unary("atanh", torch.atanh)
_unary("ceil", torch.ceil)
_unary("cos", torch.cos)
_unary("cosh", torch.cosh)
_unary("erf", torch.erf)
_unary("exp", torch.exp)
_unary("exp2", torch.exp2)
_unary("floor", torch.floor)
_unary("round", torch.round)
_unary("sign", torch.sign)
_unary("sin", torch.sin)
_unary("sinh", torch.sinh)
_unary("sqrt", torch.sqrt)
_unary("square", torch.square)
_unary("tan", torch.tan)
_unary("tanh", torch.tanh)


@op("logical_not", result=_BOOL, shape="x")
def logical_not(x: Tensor) -> Tensor:
    """Not x, for bool."""
    return torch.logical_not(x)


@op("inverse", shape="x")
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


@op("log", shape="x")
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(x + epsilon)


@op("rsqrt", shape="x")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@op("clip", shape="x")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(x, alpha), beta)."""
    return torch.clamp(x, alpha, beta)


@op("threshold", shape="x")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """max(x, alpha)."""
    return torch.clamp(x, min=alpha)


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


@op("identity", exact=True, shape="x")
def identity(x: Tensor) -> Tensor:
    """x."""
    return x
