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


@op("sigmoid", shape="x")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


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
