"""Compressed weights: the constexpr ops of iOS 16 and iOS 18, decompressed on demand.

Definitions: coremltools, converters/mil/mil/ops/defs/iOS16/constexpr_ops.py and iOS18/compression.py. Forms that no
package of ours contains (tables of vectors, casts, sparse integers) are described, not decompressed. Arithmetic is in
float32 with one rounding to the declared type, which is exact for the integer types. Data is processed in parts, so
that it needs little more memory than the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.constants import MilConstant, unpack_bits
from mobileclip_deploy.targets.mil.types import ValueType, numel

Arrays = tuple[Array, ...]
_PART = 2**20  # elements that are processed at once


def _parts(shape: tuple[int, ...], multiple: int = 1) -> Iterator[slice]:
    """Yields slices of the first dimension of about _PART elements each, whole multiples of `multiple` rows."""
    row = math.prod(shape[1:])
    rows = max(1, _PART // max(1, row * multiple)) * multiple
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def _blocks(shape: tuple[int, ...], per: tuple[int, ...], what: str) -> tuple[int, ...]:
    """Returns the number of elements per entry of `per`, in every dimension."""
    if len(per) != len(shape) or any(p < 1 or n % p for n, p in zip(shape, per, strict=True)):
        raise InvalidInput(f"{what} of shape {list(per)} does not divide data of shape {list(shape)}")
    return tuple(n // p for n, p in zip(shape, per, strict=True))


def _shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """Computes scale * (data - offset) with one scale and offset per block of the data; all of one rank."""
    if data.ndim == 0 or (offset is not None and offset.shape != scale.shape):
        raise InvalidInput("a block-wise scale needs data of at least one dimension and an offset of its own shape")
    blocks = _blocks(data.shape, scale.shape, "a block-wise scale")
    result = torch.empty(data.shape, dtype=torch.from_numpy(scale).dtype)
    for part in _parts(data.shape, blocks[0]):
        values = torch.from_numpy(data[part]).to(torch.float32)
        groups = slice(part.start // blocks[0], part.stop // blocks[0])
        shape = values.shape
        values = values.reshape([size for n, b in zip(shape, blocks, strict=True) for size in (n // b, b)])
        if offset is not None:
            values -= _spread(offset[groups])
        values *= _spread(scale[groups])
        result[part] = values.reshape(shape)  # rounded here
    return result.numpy()


def _spread(values: Array) -> torch.Tensor:
    """Returns float32 with an axis of size 1 after each."""
    return torch.from_numpy(values).to(torch.float32).reshape([size for n in values.shape for size in (n, 1)])


def _affine(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    rank, index = quantized_data.ndim, int(axis)
    if rank == 0 or not -rank <= index < rank:
        raise InvalidInput(f"constexpr_affine_dequantize has axis {index} for data of rank {rank}")
    shape = [1] * rank
    shape[index] = quantized_data.shape[index]

    def along(values: Array) -> Array:
        if values.size not in (1, shape[index]) or values.ndim > 1:
            raise InvalidInput(
                f"constexpr_affine_dequantize has {values.size} scales or zero points, not {shape[index]}"
            )
        return np.array(np.broadcast_to(values.reshape(-1), (shape[index],))).reshape(shape)

    return _shift_scale(quantized_data, along(scale), along(zero_point))


def _palette(indices: Array, lut: Array) -> Array:
    """Looks up each index in the table of its group: indices [D], lut [G, 2^bits, 1] -> [D]."""
    if indices.ndim == 0 or lut.ndim != indices.ndim + 2 or lut.shape[-1] != 1:
        raise InvalidInput(f"a look-up table {list(lut.shape)} of indices {list(indices.shape)} is not evaluated")
    *groups, entries, _ = lut.shape
    blocks = _blocks(indices.shape, tuple(groups), "look-up tables")
    if indices.size and int(indices.max()) >= entries:
        raise InvalidInput(f"a palettized weight has the index {int(indices.max())} into {entries} entries")
    table = torch.from_numpy(np.ascontiguousarray(lut)).reshape(-1)
    result = np.empty(indices.shape, lut.dtype)
    for part in _parts(indices.shape):
        positions = torch.from_numpy(indices[part]).to(torch.int32)
        if len(table) != entries:
            stride = entries
            for axis in reversed(range(indices.ndim)):
                first = part.start if axis == 0 else 0
                group = (torch.arange(positions.shape[axis], dtype=torch.int32) + first) // blocks[axis] * stride
                positions += group.reshape(-1, *[1] * (indices.ndim - 1 - axis))
                stride *= groups[axis]
        result[part] = table.index_select(0, positions.reshape(-1)).numpy().reshape(result[part].shape)
    return result


def _flat_palette(indices: Array, lut: Array, shape: Array) -> Array:
    """Decodes iOS 16's form: one table, indices packed into bytes."""
    dims = tuple(int(n) for n in shape.reshape(-1))
    count, bits = numel(dims, "a palettized weight"), lut.size.bit_length() - 1
    if lut.ndim != 1 or lut.size != 2**bits or not 1 <= bits <= 8 or indices.shape != (-(-count * bits // 8),):
        raise InvalidInput(
            f"{lut.size} entries and {indices.size} bytes of indices do not make a weight of {list(dims)}"
        )
    unpacked: Array = indices if bits == 8 else unpack_bits(indices, bits, count, False)
    result = np.empty(count, lut.dtype)
    for part in _parts((count,)):
        np.take(lut, unpacked[part], out=result[part])
    return result.reshape(dims)


def _fill(nonzero_data: Array, mask: Array) -> Array:
    """Puts the nonzero values, in order, where the mask is set, and zeros elsewhere."""
    chosen = mask.astype(bool)
    if nonzero_data.shape != (int(np.count_nonzero(chosen)),):
        raise InvalidInput(
            f"{nonzero_data.size} values do not fit the {int(np.count_nonzero(chosen))} set bits of a mask"
        )
    result = np.zeros(mask.shape, nonzero_data.dtype)
    result[chosen] = nonzero_data
    return result


def _sparse_palette(indices_mask: Array, indices_nonzero_data: Array, lut: Array) -> Arrays:
    dense = _palette(_fill(indices_nonzero_data, indices_mask), lut)
    return indices_mask, dense[indices_mask.astype(bool)]


# The forms that packages of ours contain: required inputs, optional inputs, and the function that computes them.
_TABLE: dict[str, tuple[tuple[set[str], set[str], Callable[..., Array | Arrays]], ...]] = {
    "constexpr_affine_dequantize": (({"quantized_data", "zero_point", "scale", "axis"}, set(), _affine),),
    "constexpr_lut_to_dense": (
        ({"indices", "lut", "shape"}, set(), _flat_palette),
        ({"indices", "lut"}, set(), _palette),
    ),
    "constexpr_sparse_to_dense": (({"nonzero_data", "mask"}, set(), _fill),),
    "constexpr_blockwise_shift_scale": (({"data", "scale"}, {"offset"}, _shift_scale),),
    "constexpr_lut_to_sparse": (({"indices_mask", "indices_nonzero_data", "lut"}, set(), _sparse_palette),),
}


@dataclass(frozen=True)
class Decompression:
    """A constexpr operation.

    Attributes:
        kind: its op type.
        name: its name.
        operands: its inputs; the result of another constexpr operation if weights are compressed twice.
        types: the declared types of its results.
    """

    kind: str
    name: str
    operands: Mapping[str, MilConstant | Decompressed]
    types: tuple[ValueType, ...]

    def run(self) -> Arrays:
        """Decompresses: one array per result, in its declared type and shape.

        Raises:
            InvalidInput: the inputs contradict each other or the declared types.
        """
        names = set(self.operands)
        forms = [form for form in _TABLE.get(self.kind, ()) if form[0] <= names <= form[0] | form[1]]
        if not forms:
            raise InvalidInput(f"{self.kind} {self.name!r} of {', '.join(sorted(names))} is not evaluated")
        results = forms[0][2](**{name: operand.array() for name, operand in self.operands.items()})
        arrays = results if isinstance(results, tuple) else (results,)
        if len(arrays) != len(self.types):
            raise InvalidInput(f"{self.kind} {self.name!r} declares {len(self.types)} results, it has {len(arrays)}")
        for array, declared in zip(arrays, self.types, strict=True):
            if not declared.admits(array.shape):
                raise InvalidInput(f"{self.kind} {self.name!r} yields shape {list(array.shape)}, declared {declared}")
            if array.dtype != declared.dtype.storage:
                raise InvalidInput(f"{self.kind} {self.name!r} yields {array.dtype}, declared {declared}")
        return arrays


@dataclass(frozen=True)
class Decompressed:
    """One result of a constexpr operation; its users treat it as any other constant."""

    source: Decompression
    index: int

    @property
    def type(self) -> ValueType:
        """Its declared type."""
        return self.source.types[self.index]

    @property
    def nbytes(self) -> int:
        """Bytes of the compressed form: all its inputs as stored."""
        return sum(operand.nbytes for operand in self.source.operands.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Op types that lead to it, the first applied first."""
        before = [o.kinds for o in self.source.operands.values() if isinstance(o, Decompressed)]
        return (*dict.fromkeys(kind for kinds in before for kind in kinds), self.source.kind)

    def array(self) -> Array:
        """Returns the decompressed value. See `Decompression.run`."""
        return self.source.run()[self.index]

    def tensor(self) -> torch.Tensor:
        """Returns the decompressed value as a torch tensor, float16 as such."""
        return torch.from_numpy(np.ascontiguousarray(self.array()))
