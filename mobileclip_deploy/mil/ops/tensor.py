"""Ops that build, cut, join and order tensors.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/tensor_operation.py and tensor_transformation.py (and iOS16,
iOS17).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import (
    Bools,
    Ints,
    Shape,
    Shapes,
    Tensor,
    Tensors,
    Types,
    Values,
    dtype_named,
    op,
)
from mobileclip_deploy.mil.types import BY_NAME, DType, numel

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


@op("slice_by_size", exact=True)
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` elements from `begin` on, in every dimension; a size of -1 takes the rest."""
    if len(begin) != x.dim() or len(size) != x.dim():
        raise InvalidInput(f"slice_by_size has {len(begin)} bounds for a value of rank {x.dim()}")
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        first = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _concat_shape(shapes: Shapes, values: Values) -> Shape:
    every = shapes["values"]
    if all(shape == () for shape in every):
        return (len(every),)
    axis = values["axis"] % len(every[0])
    if len({(shape[:axis], shape[axis + 1 :]) for shape in every}) != 1:
        raise InvalidInput(f"the shapes {[list(shape) for shape in every]} do not join along axis {axis}")
    return (*every[0][:axis], sum(shape[axis] for shape in every), *every[0][axis + 1 :])


@op("concat", result="values", same=("values",), exact=True, shape=_concat_shape)
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """The tensors one after another along `axis`, or their slices in turn; scalars make a vector."""
    if all(value.dim() == 0 for value in values):
        return torch.stack(values)
    if interleave:
        axis = axis % values[0].dim()
        return torch.stack(values, axis + 1).flatten(axis, axis + 1)
    return torch.cat(values, axis)


def _stack_shape(shapes: Shapes, values: Values) -> Shape:
    first = shapes["values"][0]
    if any(shape != first for shape in shapes["values"]):
        raise InvalidInput(f"the shapes {[list(shape) for shape in shapes['values']]} do not stack")
    axis = values["axis"] % (len(first) + 1)
    return (*first[:axis], len(shapes["values"]), *first[axis:])


@op("stack", result="values", same=("values",), exact=True, shape=_stack_shape)
def stack(values: Tensors, axis: int) -> Tensor:
    """Tensors of one shape along a new axis."""
    return torch.stack(values, axis)


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


@op("tile", exact=True)
def tile(x: Tensor, reps: Ints) -> Tensor:
    """x repeated reps[i] times along dimension i."""
    if len(reps) != x.dim() or any(rep < 1 for rep in reps):
        raise InvalidInput(f"tile has the repetitions {list(reps)} for a value of rank {x.dim()}")
    numel(tuple(size * rep for size, rep in zip(x.shape, reps, strict=True)), "the result of tile")
    return x.repeat(reps)


@op("pad", exact=True)
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """x with pad[2 i] elements before and pad[2 i + 1] after in its last len(pad) / 2 dimensions.

    The new elements are `constant_val`, mirror images (reflect) or the edge (replicate).
    """
    count = len(pad) // 2
    if len(pad) % 2 or count > x.dim() or any(amount < 0 for amount in pad):
        raise InvalidInput(f"pad has the amounts {list(pad)} for a value of rank {x.dim()}")
    amounts = [(0, 0)] * (x.dim() - count) + [(pad[2 * i], pad[2 * i + 1]) for i in range(count)]
    numel(tuple(size + sum(pair) for size, pair in zip(x.shape, amounts, strict=True)), "the result of pad")
    if mode == "constant":
        return F.pad(x, [amount for pair in reversed(amounts) for amount in pair], value=constant_val)
    if mode not in ("reflect", "replicate"):
        raise InvalidInput(f"pad has no mode {mode!r}")
    for axis, (before, after) in enumerate(amounts):
        size = x.shape[axis]
        if before or after:
            positions = torch.arange(-before, size + after)
            if mode == "reflect":
                if max(before, after) >= size:
                    raise InvalidInput(f"pad cannot reflect {max(before, after)} of {size} elements")
                positions = (size - 1) - ((size - 1) - positions.abs()).abs()
            x = x.index_select(axis, positions.clamp(0, size - 1).to(x.device))
    return x


@op("fill", result=lambda types, values: types.get("value", BY_NAME["float32"]), exact=True)
def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    """A tensor of the given shape, `value` (0.0 when absent) everywhere."""
    numel(shape, "the result of fill")
    return torch.zeros(()).expand(shape) if value is None else value.reshape(()).expand(shape)


@op("fill_like", result=lambda types, values: types.get("value", BY_NAME["float32"]), exact=True)
def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """A tensor of the shape of ref_tensor, `value` (0.0 when absent) everywhere."""
    return torch.zeros(()).expand(ref_tensor.shape) if value is None else value.reshape(()).expand(ref_tensor.shape)


def _one_hot_type(types: Types, values: Values) -> DType:
    return types.get("on_value", types.get("off_value", BY_NAME["int32"]))


def _one_hot_shape(shapes: Shapes, values: Values) -> Shape:
    (indices,) = shapes["indices"]
    axis = values.get("axis", -1) % (len(indices) + 1)
    return (*indices[:axis], values["one_hot_vector_size"], *indices[axis:])


@op("one_hot", result=_one_hot_type, exact=True, shape=_one_hot_shape)
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """on_value (1) at the index, off_value (0) elsewhere, along a new axis; an index out of range has no on_value."""
    on = torch.tensor(1, dtype=torch.int32) if on_value is None else on_value.reshape(())
    off = torch.zeros((), dtype=on.dtype) if off_value is None else off_value.reshape(())
    numel((*indices.shape, one_hot_vector_size), "the result of one_hot")
    at = axis if axis >= 0 else axis + indices.dim() + 1
    positions = torch.arange(one_hot_vector_size, device=indices.device)
    positions = positions.reshape(-1, *[1] * (indices.dim() - at))
    return torch.where(indices.unsqueeze(at) == positions, on, off)


@op("range_1d", result="start", same=("start", "end", "step"), by_value=True)
def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... below end."""
    first, last, by = (value.item() for value in (start, end, step))
    if by == 0:
        raise InvalidInput("range_1d has a step of 0")
    numel((max(0, math.ceil((last - first) / by)),), "the result of range_1d")
    return torch.arange(first, last, by, dtype=start.dtype) if (last - first) / by > 0 else start.new_zeros(0)


@op("band_part", exact=True, shape="x")
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """x with zeros outside `lower` diagonals below and `upper` above the main one, of the last two dimensions."""
    rows = torch.arange(x.shape[-2], device=x.device)[:, None]
    columns = torch.arange(x.shape[-1], device=x.device)[None, :]
    keep = torch.ones((), dtype=torch.bool, device=x.device).expand(x.shape[-2], x.shape[-1])
    if lower >= 0:
        keep = keep & (rows - columns <= lower)
    if upper >= 0:
        keep = keep & (columns - rows <= upper)
    return torch.where(keep, x, torch.zeros_like(x))


@op("cumsum", shape="x")
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """The running sum along `axis`, without the element itself when exclusive, from the end when reversed."""
    ordered = x.flip(axis) if reverse else x
    total = torch.cumsum(ordered, axis, dtype=x.dtype)
    if exclusive:
        total = total - ordered
    return total.flip(axis) if reverse else total


@op("reverse", exact=True, shape="x")
def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """x back to front along `axes` (all when absent)."""
    return x.flip(list(range(x.dim())) if axes is None else axes)


@op("argsort", result=BY_NAME["int32"], shape="x")
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """The indices that sort x along `axis`, largest first unless ascending; equal ones stay in order."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices.to(torch.int32)


def _topk_types(types: Types, values: Values) -> tuple[DType, ...]:
    if not values.get("return_indices", True):
        return (types["x"],)
    return types["x"], dtype_named(values.get("output_indices_dtype", "int32"))


@op("topk", result=_topk_types)
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """The k largest (smallest when ascending) elements along `axis` and their indices, in order, also if not sort."""
    if not 0 < k <= x.shape[axis]:
        raise InvalidInput(f"topk takes {k} of {x.shape[axis]} elements")
    ordered = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    values = ordered.values.narrow(axis, 0, k)
    indices = ordered.indices.narrow(axis, 0, k).to(dtype_named(output_indices_dtype).compute)
    return (values, indices) if return_indices else (values,)


@op("non_zero", result=BY_NAME["int32"], by_value=True)
def non_zero(x: Tensor) -> Tensor:
    """The indices of the elements that are not zero: int32 [count, rank]."""
    return torch.nonzero(x).to(torch.int32)
