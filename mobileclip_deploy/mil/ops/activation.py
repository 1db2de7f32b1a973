"""Activation functions.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/activation.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Tensor, op

__all__: list[str] = []


@op("relu", shape="x")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@op("relu6", shape="x")
def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return torch.clamp(x, 0, 6)


@op("clamped_relu", shape="x")
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(beta, x) where x >= 0, else min(beta, alpha * x)."""
    return torch.clamp(F.leaky_relu(x, alpha), max=beta)


@op("leaky_relu", shape="x")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """x where x >= 0, else alpha * x."""
    return F.leaky_relu(x, alpha)


@op("prelu", shape="x")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, else alpha * x, with one alpha a channel: x [N, C, ...], alpha [C]."""
    return F.prelu(x, alpha)


@op("thresholded_relu", shape="x")
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """x where x >= alpha, else 0."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@op("elu", shape="x")
def elu(x: Tensor, alpha: float) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return F.elu(x, alpha)


@op("sigmoid", shape="x")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@op("sigmoid_hard", shape="x")
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(alpha * x + beta, 0), 1)."""
    return torch.clamp(alpha * x + beta, 0, 1)


@op("silu", shape="x")
def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return F.silu(x)


@op("softplus", shape="x")
def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return F.softplus(x)


@op("softsign", shape="x")
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return F.softsign(x)


@op("scaled_tanh", shape="x")
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * tanh(beta * x)."""
    return alpha * torch.tanh(beta * x)


@op("linear_activation", shape="x")
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * x + beta."""
    return alpha * x + beta


@op("softmax", shape="x")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along axis."""
    return torch.softmax(x, axis)


@op("gelu", shape="x")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """x * Phi(x) by erf (EXACT), by tanh (TANH_APPROXIMATION), or x * sigmoid(1.702 x) (SIGMOID_APPROXIMATION)."""
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise InvalidInput(f"gelu has no mode {mode!r}")
