"""Reductions over axes.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/reduction.py and iOS17/reduction.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Ints, Shape, Shapes, Tensor, Types, Values, dtype_named, op
from mobileclip_deploy.mil.types import DType

__all__: list[str] = []


def _axes(x: Tensor, axes: Ints | None) -> list[int]:
    if axes is None:
        return list(range(x.dim()))
    if any(not -x.dim() <= axis < x.dim() for axis in axes):
        raise InvalidInput(f"the axes {list(axes)} are outside a value of rank {x.dim()}")
    return sorted({axis % x.dim() for axis in axes})


def _product(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    for dim in reversed(dims):
        x = torch.prod(x, dim, keepdim=keep, dtype=x.dtype)
    return x


def _mean(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    if not x.is_floating_point():
        raise InvalidInput("reduce_mean of integers is not evaluated")
    return torch.mean(x, dims, keepdim=keep)


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_l1_norm": lambda x, dims, keep: torch.sum(x.abs(), dims, keepdim=keep, dtype=x.dtype),
    "reduce_l2_norm": lambda x, dims, keep: torch.sqrt(torch.sum(x.square(), dims, keepdim=keep)),
    "reduce_log_sum": lambda x, dims, keep: torch.log(torch.sum(x, dims, keepdim=keep)),
    "reduce_log_sum_exp": lambda x, dims, keep: torch.logsumexp(x, dims, keepdim=keep),
    "reduce_max": lambda x, dims, keep: torch.amax(x, dims, keepdim=keep),
    "reduce_mean": _mean,
    "reduce_min": lambda x, dims, keep: torch.amin(x, dims, keepdim=keep),
    "reduce_prod": _product,
    "reduce_sum": lambda x, dims, keep: torch.sum(x, dims, keepdim=keep, dtype=x.dtype),
    "reduce_sum_square": lambda x, dims, keep: torch.sum(x.square(), dims, keepdim=keep, dtype=x.dtype),
}


def _reduced(shapes: Shapes, values: Values) -> Shape:
    (x,) = shapes["x"]
    axes = (values["axis"],) if "axis" in values else values.get("axes", range(len(x)))
    gone = {axis % len(x) for axis in axes} if x else set()
    return tuple(
        1 if axis in gone else size for axis, size in enumerate(x) if axis not in gone or values.get("keep_dims", False)
    )


def _index_shape(shapes: Shapes, values: Values) -> Shape:
    return _reduced(shapes, {"axis": -1} | dict(values))


def _define(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    def compute(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        dims = _axes(x, axes)
        return function(x, dims, keep_dims) if dims else function(x.unsqueeze(0), [0], False)

    compute.__doc__ = f"{name} over `axes` (all when absent); with keep_dims they stay with size 1."
    op(name, shape=_reduced)(compute)


for _name, _function in _REDUCTIONS.items():
    _define(_name, _function)


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
