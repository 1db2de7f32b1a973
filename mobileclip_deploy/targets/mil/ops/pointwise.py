"""Ops on every element by itself, or along one axis: arithmetic, activations, casts, quantization.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/elementwise_unary.py, elementwise_binary.py, activation.py
and iOS17/quantization_ops.py.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.ops.registry import Tensor, broadcast, dtype_named, op
from mobileclip_deploy.targets.mil.types import BY_NAME

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor], *, to_bool: bool = False) -> None:
    """Registers an op of two tensors that broadcast as in numpy."""

    def compute(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    op(name, result=BY_NAME["bool"] if to_bool else "x", same=("x", "y"), shape=broadcast)(compute)


def _unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def compute(x: Tensor) -> Tensor:
        return function(x)

    op(name, shape="x")(compute)


_binary("add", torch.add)
_binary("sub", torch.sub)
_binary("mul", torch.mul)
_binary("real_div", torch.div)
_binary("pow", torch.pow)
_binary("maximum", torch.maximum)
_binary("minimum", torch.minimum)
_binary("equal", torch.eq, to_bool=True)
_binary("greater_equal", torch.ge, to_bool=True)

_unary("abs", torch.abs)
_unary("exp", torch.exp)
_unary("square", torch.square)
_unary("relu", torch.relu)
_unary("sigmoid", torch.sigmoid)
_unary("sqrt", torch.sqrt)
_unary("tanh", torch.tanh)  # in no package of ours: tests/faults plants it for sigmoid


@op("rsqrt", shape="x")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """Computes 1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@op("batch_norm", shape="x")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Computes gamma * (x - mean) / sqrt(variance + epsilon) + beta per channel: x [N, C, ...], the others [C]."""
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


@op("softmax", shape="x")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Computes exp(x) / sum(exp(x)) along axis."""
    return torch.softmax(x, axis)


@op("gelu", shape="x")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Computes x * Phi(x) by erf (EXACT), by tanh (TANH_APPROXIMATION), or x * sigmoid(1.702 x)
    (SIGMOID_APPROXIMATION)."""
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise InvalidInput(f"gelu has no mode {mode!r}")


@op("clip", shape="x")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Computes min(max(x, alpha), beta)."""
    return torch.clamp(x, alpha, beta)


@op("select", result="a", same=("a", "b"), exact=True, shape=broadcast)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns a where cond, else b; the three broadcast."""
    return torch.where(cond.to(torch.bool), a, b)


@op("cast", result=lambda types, values: dtype_named(values["dtype"]), shape="x")
def cast(x: Tensor, dtype: str) -> Tensor:
    """Converts x to another element type: toward zero from float to integer, "not zero" to bool."""
    target = dtype_named(dtype)
    if target.kind == "string":
        raise InvalidInput("a cast to text is not evaluated")
    return x.to(target.compute)


@op("quantize", result=lambda types, values: dtype_named(values["output_dtype"]), shape="input")
def quantize(input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None) -> Tensor:
    """Computes clip(round(input / scale) + zero_point) to int8 or uint8, by one scale; half rounds to even."""
    if output_dtype not in _RANGES:
        raise InvalidInput(f"quantize has the output type {output_dtype!r}, not int8 or uint8")
    quantized = torch.round(input / _single(scale))
    if zero_point is not None:
        quantized = quantized + _single(zero_point).to(quantized.dtype)
    return torch.clamp(quantized, *_RANGES[output_dtype]).to(dtype_named(output_dtype).compute)


@op("dequantize", result="scale", shape="input")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """Computes scale * (input - zero_point), by one scale."""
    values = input.to(_single(scale).dtype)
    return (values if zero_point is None else values - _single(zero_point).to(scale.dtype)) * scale


def _single(parameter: Tensor) -> Tensor:
    if parameter.dim():
        raise InvalidInput("several scales or zero points of one activation are not evaluated")
    return parameter
