"""Gathering by computed indices.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/scatter_gather.py, iOS16 (batch_dims) and iOS17. Up to
iOS 16 a negative index counts from the end; from iOS 17 on it is out of range. What a device does for an index out of
range is undefined unless validate_indices is set, so here it is an error either way.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.gather import checked_indices
from mobileclip_deploy.mil.ops.registry import Opset, Shape, Shapes, Stored, Tensor, Values, op

__all__: list[str] = []


@op("gather_along_axis", exact=True, shape="indices")
def gather_along_axis(
    x: Stored, indices: Tensor, opset: Opset, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    """x[..., indices[..., i, ...], ...]: x and indices of one rank -> the shape of the indices."""
    return torch.gather(x, axis, checked_indices(indices, x.shape[axis], opset))


def _gather_nd_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (indices,) = shapes["x"], shapes["indices"]
    return (*indices[:-1], *x[values.get("batch_dims", 0) + indices[-1] :])


@op("gather_nd", exact=True, shape=_gather_nd_shape)
def gather_nd(x: Stored, indices: Tensor, opset: Opset, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices of x at index vectors: x [D], indices [K] -> [K[:-1], D[batch_dims + K[-1]:]]."""
    depth = indices.shape[-1]
    if not 0 <= batch_dims < indices.dim() or batch_dims + depth > x.dim():
        raise InvalidInput(f"gather_nd has indices {list(indices.shape)} into a value of shape {list(x.shape)}")
    if x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise InvalidInput(f"gather_nd has {batch_dims} batch dimensions that differ")
    parts = [checked_indices(indices.select(-1, i), x.shape[batch_dims + i], opset) for i in range(depth)]
    batch = [
        torch.arange(x.shape[i], device=x.device).reshape(-1, *[1] * (indices.dim() - 2 - i)) for i in range(batch_dims)
    ]
    return x[(*batch, *parts)] if batch or parts else x.expand(*indices.shape[:-1], *x.shape)
