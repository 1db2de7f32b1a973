"""Elementwise ops with numpy's broadcasting: comparison, logic, powers, trigonometry and logarithms.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/elementwise_unary.py, elementwise_binary.py and iOS17.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.ops.elementwise import BOOL, binary, unary
from mobileclip_deploy.mil.ops.registry import Tensor, op

__all__: list[str] = []


binary("floor_div", torch.floor_divide)
binary("mod", torch.remainder)
binary("pow", torch.pow)
binary("maximum", torch.maximum)
binary("minimum", torch.minimum)
binary("not_equal", torch.ne, to_bool=True)
binary("greater", torch.gt, to_bool=True)
binary("less", torch.lt, to_bool=True)
binary("less_equal", torch.le, to_bool=True)
binary("logical_and", torch.logical_and, to_bool=True)
binary("logical_or", torch.logical_or, to_bool=True)
binary("logical_xor", torch.logical_xor, to_bool=True)

unary("acos", torch.acos)
unary("asin", torch.asin)
unary("atan", torch.atan)
unary("atanh", torch.atanh)
unary("ceil", torch.ceil)
unary("cos", torch.cos)
unary("cosh", torch.cosh)
unary("erf", torch.erf)
unary("exp", torch.exp)
unary("exp2", torch.exp2)
unary("floor", torch.floor)
unary("round", torch.round)
unary("sign", torch.sign)
unary("sin", torch.sin)
unary("sinh", torch.sinh)
unary("square", torch.square)
unary("tan", torch.tan)
unary("tanh", torch.tanh)


@op("logical_not", result=BOOL, shape="x")
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


@op("threshold", shape="x")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """max(x, alpha)."""
    return torch.clamp(x, min=alpha)


@op("identity", exact=True, shape="x")
def identity(x: Tensor) -> Tensor:
    """x."""
    return x
