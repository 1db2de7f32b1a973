"""Activation functions.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/activation.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.ops.registry import Tensor, op

__all__: list[str] = []


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
