"""Ops that only rearrange: reshape, transpose, axes of size 1.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS15/tensor_transformation.py (and iOS16, iOS17).
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Ints, Opset, Tensor, axes_of, op
from mobileclip_deploy.mil.types import BY_NAME

__all__: list[str] = []


def _zeros(wanted: Ints, shape: tuple[int, ...], opset: int) -> list[int]:
    """Replace each 0 of a wanted shape by the dimension that it stands for."""
    if 0 not in wanted or 0 in shape:
        return list(wanted)
    if opset < 17:
        if len(wanted) != len(shape):
            raise InvalidInput(f"reshape to {list(wanted)} from rank {len(shape)} needs equal ranks for the zeros")
        return [have if want == 0 else want for want, have in zip(wanted, shape, strict=True)]
    # From iOS 17 on, zeros are matched from the right; one without a counterpart is 1.
    padded = (1,) * (len(wanted) - len(shape)) + shape[max(0, len(shape) - len(wanted)) :]
    return [have if want == 0 else want for want, have in zip(wanted, padded, strict=True)]


@op("shape", result=BY_NAME["int32"], exact=True)
def shape(x: Tensor) -> Tensor:
    """The shape of x: int32 [rank]. Text towers of several lengths ask for it."""
    return torch.tensor(tuple(x.shape), dtype=torch.int32)


@op("reshape", exact=True)
def reshape(x: Tensor, shape: Ints, opset: Opset) -> Tensor:
    """x in another shape; one -1 takes what is left, a 0 keeps a dimension of x."""
    return x.reshape(_zeros(shape, tuple(x.shape), opset))


@op("transpose", exact=True)
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """x with its dimensions in the order `perm`."""
    return x.permute(perm)


@op("expand_dims", exact=True)
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """x with dimensions of size 1 at `axes` of the result."""
    rank = x.dim() + len(axes)
    shape = list(x.shape)
    for axis in sorted(axes_of(axes, rank)):
        shape.insert(axis, 1)
    return x.reshape(shape)


@op("squeeze", exact=True)
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """x without its dimensions of size 1, or without those among `axes`; other sizes are kept as in torch."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, axes)
