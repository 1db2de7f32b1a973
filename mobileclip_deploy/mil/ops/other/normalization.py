"""Normalization layers.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/normalization.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.ops.registry import Tensor, op

__all__: list[str] = []


@op("batch_norm", shape="x")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta with one of each a channel: x [N, C, ...], the rest [C]."""
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


@op("instance_norm", shape="x")
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """As batch_norm, with mean and variance of each image and channel: x [N, C, ...], gamma and beta [C]."""
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


@op("l2_norm", shape="x")
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """x / sqrt(sum(x^2) + epsilon) over the last three dimensions."""
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


@op("local_response_norm", shape="x")
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels)^beta."""
    return F.local_response_norm(x, size, alpha, beta, k)
