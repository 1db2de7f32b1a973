"""Layer normalization.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/normalization.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.ops.registry import Ints, Tensor, axes_of, op

__all__: list[str] = []


@op("layer_norm", shape="x")
def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """gamma * (x - E[x]) / sqrt(Var[x] + epsilon) + beta over `axes`; gamma and beta have the shape of those axes."""
    dims = sorted(axes_of(axes, x.dim())) if axes is not None else list(range(x.dim()))
    if dims == list(range(x.dim() - len(dims), x.dim())):
        return F.layer_norm(x, [x.shape[dim] for dim in dims], gamma, beta, epsilon)
    centred = x - x.mean(dims, keepdim=True)
    normalized = centred / torch.sqrt(centred.square().mean(dims, keepdim=True) + epsilon)
    shape = [size if dim in dims else 1 for dim, size in enumerate(x.shape)]
    if gamma is not None:
        normalized = normalized * gamma.reshape(shape)
    return normalized if beta is None else normalized + beta.reshape(shape)
