"""Reductions over axes.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/reduction.py and iOS17/reduction.py.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.ops.reduction import reduced, reduction
from mobileclip_deploy.mil.ops.registry import Shape, Shapes, Tensor, Types, Values, dtype_named, op
from mobileclip_deploy.mil.types import DType

__all__: list[str] = []


def _product(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    for dim in reversed(dims):
        x = torch.prod(x, dim, keepdim=keep, dtype=x.dtype)
    return x


reduction("reduce_l1_norm", lambda x, dims, keep: torch.sum(x.abs(), dims, keepdim=keep, dtype=x.dtype))
reduction("reduce_l2_norm", lambda x, dims, keep: torch.sqrt(torch.sum(x.square(), dims, keepdim=keep)))
reduction("reduce_log_sum", lambda x, dims, keep: torch.log(torch.sum(x, dims, keepdim=keep)))
reduction("reduce_log_sum_exp", lambda x, dims, keep: torch.logsumexp(x, dims, keepdim=keep))
reduction("reduce_min", lambda x, dims, keep: torch.amin(x, dims, keepdim=keep))
reduction("reduce_prod", _product)
reduction("reduce_sum_square", lambda x, dims, keep: torch.sum(x.square(), dims, keepdim=keep, dtype=x.dtype))


def _index_shape(shapes: Shapes, values: Values) -> Shape:
    return reduced(shapes, {"axis": -1} | dict(values))


def _index_type(types: Types, values: Values) -> DType:
    return dtype_named(values.get("output_dtype", "int32"))


@op("reduce_argmax", result=_index_type, shape=_index_shape)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """The index of the maximum along `axis`, the first of equal ones."""
    return torch.argmax(x, axis, keepdim=keep_dims).to(dtype_named(output_dtype).compute)


@op("reduce_argmin", result=_index_type, shape=_index_shape)
def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """The index of the minimum along `axis`, the first of equal ones."""
    return torch.argmin(x, axis, keepdim=keep_dims).to(dtype_named(output_dtype).compute)
