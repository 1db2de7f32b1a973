"""Gathering by computed indices.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/scatter_gather.py, iOS16 (batch_dims) and iOS17. Up to
iOS 16 a negative index counts from the end; from iOS 17 on it is out of range. What a device does for an index out of
range is undefined unless validate_indices is set, so here it is an error either way.
"""

from __future__ import annotations

import math

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Opset, Shape, Shapes, Stored, Tensor, Values, axes_of, op

__all__ = ["checked_indices"]


def checked_indices(indices: Tensor, size: int, opset: int) -> Tensor:
    """`indices` as int64 in [0, size), negative ones resolved where the opset allows them.

    Raises:
        InvalidInput: an index is out of range.
    """
    if indices.is_floating_point():
        raise InvalidInput("indices are floating-point numbers")
    indices = indices.to(torch.int64)
    if indices.is_meta:
        return indices
    if opset >= 17:
        return _Within.apply(indices, 0, size)  # type: ignore[no-untyped-call]
    within = _Within.apply(indices, -size, size)  # type: ignore[no-untyped-call]
    return torch.where(within < 0, within + size, within)


class _Within(torch.autograd.Function):
    """Indices as they are, looked at: a function of its own because in a vmap no value can be looked at otherwise."""

    @staticmethod
    def forward(indices: Tensor, lowest: int, size: int) -> Tensor:
        if indices.numel() and (int(indices.min()) < lowest or int(indices.max()) >= size):
            low, high = int(indices.min()), int(indices.max())
            raise InvalidInput(f"indices from {low} to {high} are out of range for {size} elements")
        return indices.clone()

    @staticmethod
    def setup_context(*_: object) -> None:
        """Nothing is kept: no gradient is asked for."""

    @staticmethod
    def vmap(
        _: object, batched: tuple[int | None, None, None], indices: Tensor, lowest: int, size: int
    ) -> tuple[Tensor, int | None]:
        return _Within.apply(indices, lowest, size), batched[0]  # type: ignore[no-untyped-call]


def _gather_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (indices,) = shapes["x"], shapes["indices"]
    (axis,) = axes_of((values.get("axis", 0),), len(x))
    return (*x[:axis], *indices[values.get("batch_dims", 0) :], *x[axis + 1 :])


@op("gather", exact=True, shape=_gather_shape)
def gather(
    x: Stored, indices: Tensor, opset: Opset, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """Slices of x along `axis`: x [D], indices [N] -> [D[:axis], N[batch_dims:], D[axis + 1:]].

    The first `batch_dims` dimensions of x and of the indices go in step.
    """
    (axis,) = axes_of((axis,), x.dim())
    if not 0 <= batch_dims <= min(axis, indices.dim()) or x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise InvalidInput(
            f"gather has {batch_dims} batch dimensions for shapes {list(x.shape)}, {list(indices.shape)}"
        )
    at = checked_indices(indices, x.shape[axis], opset)
    shape = (*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :])
    if batch_dims == 0:
        return x.index_select(axis, at.reshape(-1)).reshape(shape)
    batch = math.prod(x.shape[:batch_dims])
    # x as [batch, before, size, behind], indices as [batch, 1, N, 1] spread over what is before and behind.
    rows = x.reshape(batch, math.prod(x.shape[batch_dims:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))
    at = at.reshape(batch, 1, -1, 1).expand(-1, rows.shape[1], -1, rows.shape[3])
    return torch.gather(rows, 2, at).reshape(shape)
