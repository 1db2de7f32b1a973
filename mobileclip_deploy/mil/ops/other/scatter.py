"""Scattering to computed indices.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/scatter_gather.py and iOS17/scatter_gather.py. Indices as
for gathering: out of range is an error.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.gather import checked_indices
from mobileclip_deploy.mil.ops.registry import Opset, Tensor, op

__all__: list[str] = []

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter(data: Tensor, axis: int, at: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Combine `updates` into a copy of `data` at the positions `at` along `axis`; all of one rank."""
    updates = updates.expand(at.shape)
    if mode == "update":
        return data.scatter(axis, at, updates)
    if mode == "sub":
        return data.scatter_reduce(axis, at, -updates, "sum")
    if mode == "div":
        return data.scatter_reduce(axis, at, 1 / updates, "prod")
    if mode not in _REDUCE:
        raise InvalidInput(f"scattering has no mode {mode!r}")
    return data.scatter_reduce(axis, at, updates, _REDUCE[mode])


@op("scatter", result="data", same=("data", "updates"))
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    opset: Opset,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """updates[..., i, ...] combined into data[..., indices[i], ...] along `axis`; indices [C]."""
    at = checked_indices(indices, data.shape[axis], opset)
    shape = [1] * data.dim()
    shape[axis] = -1
    return _scatter(data, axis, at.reshape(shape).expand(updates.shape), updates, mode)


@op("scatter_along_axis", result="data", same=("data", "updates"))
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    opset: Opset,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """updates combined into data at indices[..., i, ...] along `axis`; indices and updates of one shape."""
    return _scatter(data, axis, checked_indices(indices, data.shape[axis], opset), updates, mode)


@op("scatter_nd", result="data", same=("data", "updates"))
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, opset: Opset, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """updates combined into data at index vectors: indices [K], updates [K[:-1], data.shape[K[-1]:]]."""
    depth = indices.shape[-1]
    if depth > data.dim():
        raise InvalidInput(f"scatter_nd has indices {list(indices.shape)} into a value of shape {list(data.shape)}")
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for i in range(depth):
        flat = flat * data.shape[i] + checked_indices(indices.select(-1, i), data.shape[i], opset)
    rest = data.shape[depth:]
    rows = data.reshape(-1, *rest)
    at = flat.reshape(-1, *[1] * len(rest))
    updates = updates.reshape(-1, *rest)
    return _scatter(rows, 0, at.expand(updates.shape), updates, mode).reshape(data.shape)
