"""Ops that build, fill, repeat and order tensors.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/tensor_operation.py and tensor_transformation.py (and iOS16,
iOS17).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import (
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


@op("slice_by_size", exact=True)
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` elements from `begin` on, in every dimension; a size of -1 takes the rest."""
    if len(begin) != x.dim() or len(size) != x.dim():
        raise InvalidInput(f"slice_by_size has {len(begin)} bounds for a value of rank {x.dim()}")
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        first = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


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
