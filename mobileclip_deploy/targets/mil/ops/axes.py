"""Ops along axes: reductions and layer norms, values cut, joined, rearranged and looked up, and a classifier's head.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/reduction.py, normalization.py, tensor_operation.py,
tensor_transformation.py, scatter_gather.py, classify.py, and iOS16 and iOS17. Up to iOS 16 a negative index of a gather
counts from the end. A 0 in the shape of a reshape copies that dimension of the input. No package of ours contains
either, and both are refused.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.ops.registry import (
    Bools,
    Ints,
    Labels,
    Shape,
    Shapes,
    Stored,
    Tensor,
    Tensors,
    Values,
    axes_of,
    op,
)
from mobileclip_deploy.targets.mil.types import BY_NAME


def _reduced(shapes: Shapes, values: Values) -> Shape:
    """Returns the shape of a reduction's result: `axes` are removed or, with keep_dims, of size 1."""
    (x,) = shapes["x"]
    gone = {*axes_of(tuple(values.get("axes", range(len(x)))), len(x))}
    return tuple(
        1 if axis in gone else size for axis, size in enumerate(x) if axis not in gone or values.get("keep_dims", False)
    )


def _reduction(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    """Registers a reduction, from a function of a tensor, dimensions, and whether these stay with size 1."""

    def compute(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        dims = list(range(x.dim())) if axes is None else sorted({*axes_of(axes, x.dim())})
        if not dims or not x.is_floating_point():
            raise InvalidInput(f"{name} over no axis, or of integers, is not evaluated")
        return function(x, dims, keep_dims)

    op(name, shape=_reduced)(compute)


_reduction("reduce_max", lambda x, dims, keep: torch.amax(x, dims, keepdim=keep))
_reduction("reduce_mean", lambda x, dims, keep: torch.mean(x, dims, keepdim=keep))
_reduction("reduce_l2_norm", lambda x, dims, keep: torch.linalg.vector_norm(x, dim=dims, keepdim=keep))
_reduction("reduce_sum_square", lambda x, dims, keep: torch.sum(x.square(), dims, keepdim=keep))
_reduction("reduce_sum", lambda x, dims, keep: torch.sum(x, dims, keepdim=keep))


def _argmax_shape(shapes: Shapes, values: Values) -> Shape:
    return _reduced(shapes, {**values, "axes": (values.get("axis", -1),)})


@op("reduce_argmax", result=BY_NAME["int32"], shape=_argmax_shape)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Returns the index of the largest element along `axis`, the first of equal ones."""
    if output_dtype != "int32":
        raise InvalidInput(f"reduce_argmax with results of type {output_dtype} is not evaluated")
    return torch.argmax(x, axis, keepdim=keep_dims).to(torch.int32)


@op("layer_norm", shape="x")
def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Computes gamma * (x - E[x]) / sqrt(Var[x] + epsilon) + beta over `axes`; gamma and beta have the shape of those
    axes."""
    dims = sorted(axes_of(axes, x.dim())) if axes is not None else list(range(x.dim()))
    if dims == list(range(x.dim() - len(dims), x.dim())):
        return F.layer_norm(x, [x.shape[dim] for dim in dims], gamma, beta, epsilon)
    centred = x - x.mean(dims, keepdim=True)
    normalized = centred / torch.sqrt(centred.square().mean(dims, keepdim=True) + epsilon)
    shape = [size if dim in dims else 1 for dim, size in enumerate(x.shape)]
    if gamma is not None:
        normalized = normalized * gamma.reshape(shape)
    return normalized if beta is None else normalized + beta.reshape(shape)


@op("shape", result=BY_NAME["int32"], exact=True)
def shape(x: Tensor) -> Tensor:
    """Returns the shape of x: int32 [rank]. Text towers of several lengths need it."""
    return torch.tensor(tuple(x.shape), dtype=torch.int32)


@op("reshape", exact=True)
def reshape(x: Tensor, shape: Ints) -> Tensor:
    """Returns x in another shape; one -1 is inferred."""
    return x.reshape(shape)


@op("transpose", exact=True)
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Returns x with its dimensions in the order `perm`."""
    return x.permute(perm)


@op("expand_dims", exact=True)
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Returns x with dimensions of size 1 at `axes` of the result."""
    shape = list(x.shape)
    for axis in sorted(axes_of(axes, x.dim() + len(axes))):
        shape.insert(axis, 1)
    return x.reshape(shape)


@op("squeeze", exact=True)
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Returns x without its dimensions of size 1, or without those among `axes`; other sizes are kept as in torch."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, axes)


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
    """Returns x[begin:end:stride] in every dimension, as Python slices; a masked bound is open. If `squeeze_mask` is
    set, the element at `begin` is taken, whatever `end` is, and the dimension is dropped."""
    rank = x.dim()
    for values in (begin, end, stride, begin_mask, end_mask, squeeze_mask):
        if values is not None and len(values) != rank:
            raise InvalidInput(f"slice_by_index has {len(values)} bounds for a value of rank {rank}")
    selectors: list[int | slice] = []
    for axis in range(rank):
        first = 0 if begin_mask is not None and begin_mask[axis] else begin[axis]
        last = None if end_mask is not None and end_mask[axis] else end[axis]
        alone = squeeze_mask is not None and squeeze_mask[axis]
        selectors.append(first if alone else slice(first, last, 1 if stride is None else stride[axis]))
    return x[tuple(selectors)]


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
    """Concatenates the tensors along `axis`; scalars make a vector."""
    if interleave:
        raise InvalidInput("an interleaved concat is not evaluated")
    return torch.stack(values) if all(value.dim() == 0 for value in values) else torch.cat(values, axis)


def _stack_shape(shapes: Shapes, values: Values) -> Shape:
    every = shapes["values"]
    if len(set(every)) != 1:
        raise InvalidInput(f"the shapes {[list(shape) for shape in every]} do not stack")
    (axis,) = axes_of((values["axis"],), len(every[0]) + 1)
    return (*every[0][:axis], len(every), *every[0][axis:])


@op("stack", result="values", same=("values",), exact=True, shape=_stack_shape)
def stack(values: Tensors, axis: int) -> Tensor:
    """Joins tensors of one shape along a new axis."""
    return torch.stack(values, axis)


@op("pad")
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Pads the last axes of x; `pad` has the widths before and after each of them, the first of these axes first."""
    first = x.dim() - len(pad) // 2
    if len(pad) % 2 or not 0 <= first < x.dim() or min(pad) < 0:
        raise InvalidInput(f"the widths {list(pad)} do not pad {list(x.shape)}")
    widths = [pad[2 * axis + side] for axis in reversed(range(len(pad) // 2)) for side in (0, 1)]  # torch: last first
    if mode == "constant":
        return F.pad(x, widths, value=constant_val)
    padded = F.pad(x.reshape(1, -1, *x.shape[first:]), widths, mode=mode)  # torch's other modes want [N, C, ...]
    return padded.reshape(*x.shape[:first], *padded.shape[2:])


@op("split", exact=True)
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Tensor, ...]:
    """Cuts x along `axis` into `split_sizes`, or into `num_splits` equal parts."""
    if split_sizes is not None:
        if num_splits is not None and num_splits != len(split_sizes):
            raise InvalidInput(f"split has {len(split_sizes)} sizes for {num_splits} parts")
        return torch.split(x, list(split_sizes), axis)
    if num_splits is None or num_splits < 1 or x.shape[axis] % num_splits:
        raise InvalidInput(f"split into {num_splits} parts does not divide {x.shape[axis]} elements")
    return torch.split(x, x.shape[axis] // num_splits, axis)


def _gather_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (indices,) = shapes["x"], shapes["indices"]
    (axis,) = axes_of((values.get("axis", 0),), len(x))
    return (*x[:axis], *indices, *x[axis + 1 :])


@op("gather", exact=True, shape=_gather_shape)
def gather(x: Stored, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Gathers slices of x along `axis`: x [D], indices [N] -> [D[:axis], N, D[axis + 1:]].

    A device's result for an index out of range is undefined unless `validate_indices` is set; here it is an error
    either way.
    """
    (axis,) = axes_of((axis,), x.dim())
    if batch_dims or indices.is_floating_point():
        raise InvalidInput("a gather in batches, or by indices that are not integers, is not evaluated")
    rows = indices.to(torch.int64)
    if not rows.is_meta:
        rows = _Within.apply(rows, x.shape[axis])  # type: ignore[no-untyped-call]
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, rows.reshape(-1)).reshape(shape)


def _gather_nd_shape(shapes: Shapes, values: Values) -> Shape:
    (x,), (indices,) = shapes["x"], shapes["indices"]
    if values.get("batch_dims", 0) or not indices or not 0 < indices[-1] <= len(x):
        raise InvalidInput("a gather_nd in batches, or of more axes than its value has, is not evaluated")
    return (*indices[:-1], *x[indices[-1] :])


@op("gather_nd", exact=True, shape=_gather_nd_shape)
def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Gathers slices of x at positions in its first K axes: x [D], indices [N, K] -> [N, D[K:]]."""
    rows = indices.to(torch.int64)
    if not rows.is_meta:
        columns = [_Within.apply(rows[..., axis], x.shape[axis]) for axis in range(rows.shape[-1])]  # type: ignore[no-untyped-call]
    else:
        columns = list(rows.unbind(-1))
    return x[tuple(columns)]


class _Within(torch.autograd.Function):
    """Identity on indices that checks their range. It is an autograd function because vmap allows reading values only
    there."""

    @staticmethod
    def forward(indices: Tensor, size: int) -> Tensor:
        if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= size):
            low, high = int(indices.min()), int(indices.max())
            raise InvalidInput(f"indices from {low} to {high} are out of range for {size} elements")
        return indices.clone()

    @staticmethod
    def setup_context(*_: object) -> None:
        """Saves nothing: no gradient is needed."""

    @staticmethod
    def vmap(_: object, batched: tuple[int | None, None], indices: Tensor, size: int) -> tuple[Tensor, int | None]:
        return _Within.apply(indices, size), batched[0]  # type: ignore[no-untyped-call]


@op("classify", result=None)
def classify(probabilities: Tensor, classes: Labels) -> tuple[str | int, dict[str | int, float]]:
    """Returns the label of the largest probability (the first of equal ones), and label -> probability."""
    flat = probabilities.reshape(-1)
    if flat.numel() != len(classes):
        raise InvalidInput(f"classify has {len(classes)} classes for {flat.numel()} probabilities")
    return classes[int(torch.argmax(flat))], dict(zip(classes, flat.tolist(), strict=True))
