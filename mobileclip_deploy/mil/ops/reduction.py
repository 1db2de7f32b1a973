"""Reductions over axes.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/reduction.py and iOS17/reduction.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Ints, Shape, Shapes, Tensor, Values, axes_of, op

__all__ = ["reduced", "reduction"]


def _axes(x: Tensor, axes: Ints | None) -> list[int]:
    return list(range(x.dim())) if axes is None else sorted({*axes_of(axes, x.dim())})


def reduced(shapes: Shapes, values: Values) -> Shape:
    """The shape rule of reductions: `axes`, or one `axis`, gone or, with keep_dims, of size 1."""
    (x,) = shapes["x"]
    axes = (values["axis"],) if "axis" in values else values.get("axes", range(len(x)))
    gone = {*axes_of(tuple(axes), len(x))} if x else set()
    return tuple(
        1 if axis in gone else size for axis, size in enumerate(x) if axis not in gone or values.get("keep_dims", False)
    )


def reduction(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    """Register a reduction, from a function of a tensor, dimensions, and whether these stay with size 1."""

    def compute(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        dims = _axes(x, axes)
        # A reduction over no axis still computes, of each number for itself: [*D] as [1, *D] over the first.
        return function(x, dims, keep_dims) if dims else function(x.unsqueeze(0), [0], False)

    compute.__doc__ = f"{name} over `axes` (all when absent); with keep_dims they stay with size 1."
    op(name, shape=reduced)(compute)


def _mean(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    if not x.is_floating_point():
        raise InvalidInput("reduce_mean of integers is not evaluated")
    return torch.mean(x, dims, keepdim=keep)


reduction("reduce_max", lambda x, dims, keep: torch.amax(x, dims, keepdim=keep))
reduction("reduce_mean", _mean)
reduction("reduce_sum", lambda x, dims, keep: torch.sum(x, dims, keepdim=keep, dtype=x.dtype))
