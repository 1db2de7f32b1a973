"""Ops that cut and join tensors.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/tensor_operation.py and tensor_transformation.py (and iOS16,
iOS17).
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import (
    Bools,
    Ints,
    Shape,
    Shapes,
    Tensor,
    Tensors,
    Values,
    axes_of,
    op,
)

__all__: list[str] = []


@op("slice_by_index", exact=True)
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """x[begin:end:stride] in every dimension, as Python slices; a masked bound is open, a squeezed dimension dropped.

    Where `squeeze_mask` is set, the element at `begin` is taken and `end` is ignored.
    """
    rank = x.dim()
    for values in (begin, end, stride, begin_mask, end_mask, squeeze_mask):
        if values is not None and len(values) != rank:
            raise InvalidInput(f"slice_by_index has {len(values)} bounds for a value of rank {rank}")
    squeezed = [axis for axis in range(rank) if squeeze_mask is not None and squeeze_mask[axis]]
    for axis in range(rank):
        size = x.shape[axis]
        first = None if begin_mask is not None and begin_mask[axis] else begin[axis]
        last = None if end_mask is not None and end_mask[axis] else end[axis]
        step = stride[axis] if stride is not None else 1
        if axis in squeezed:
            at = first or 0
            if not -size <= at < size:
                raise InvalidInput(f"slice_by_index takes element {at} of {size} along axis {axis}")
            x = x.narrow(axis, at % size, 1)
            continue
        if step == 0:
            raise InvalidInput(f"slice_by_index has a stride of 0 along axis {axis}")
        start, stop, step = slice(first, last, step).indices(size)
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, max(start, stop), step),)]
        else:
            x = x.index_select(axis, torch.arange(start, min(start, stop), step, device=x.device))
    return x.squeeze(squeezed) if squeezed else x


def _concat_shape(shapes: Shapes, values: Values) -> Shape:
    every = shapes["values"]
    if all(shape == () for shape in every):
        return (len(every),)
    (axis,) = axes_of((values["axis"],), len(every[0]))
    if len({(shape[:axis], shape[axis + 1 :]) for shape in every}) != 1:
        raise InvalidInput(f"the shapes {[list(shape) for shape in every]} do not join along axis {axis}")
    return (*every[0][:axis], sum(shape[axis] for shape in every), *every[0][axis + 1 :])


@op("concat", result="values", same=("values",), exact=True, shape=_concat_shape)
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """The tensors one after another along `axis`, or their slices in turn; scalars make a vector."""
    if all(value.dim() == 0 for value in values):
        return torch.stack(values)
    if interleave:
        (axis,) = axes_of((axis,), values[0].dim())
        return torch.stack(values, axis + 1).flatten(axis, axis + 1)
    return torch.cat(values, axis)


@op("split", exact=True)
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Tensor, ...]:
    """x cut along `axis` into `split_sizes`, or into `num_splits` equal parts."""
    if split_sizes is not None:
        if num_splits is not None and num_splits != len(split_sizes):
            raise InvalidInput(f"split has {len(split_sizes)} sizes for {num_splits} parts")
        return torch.split(x, list(split_sizes), axis)
    if num_splits is None or num_splits < 1 or x.shape[axis] % num_splits:
        raise InvalidInput(f"split into {num_splits} parts does not divide {x.shape[axis]} elements")
    return torch.split(x, x.shape[axis] // num_splits, axis)
