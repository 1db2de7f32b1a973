"""Value types of ML programs: element types with their storage and their arithmetic type, and shapes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mobileclip_deploy.errors import InvalidInput

MAX_ELEMENTS = 2**29
"""Most elements of a value of a program: 2 GiB in float32, 20 times the largest of a CLIP tower."""

_MAX_RANK = 16


@dataclass(frozen=True)
class DType:
    """An element type of MIL.

    Attributes:
        name: numpy's name if numpy has the type ("float16"), else MIL's ("int4").
        code: its number in MIL.proto's DataType.
        blob: its number in a weight file; None if it occurs in the specification alone.
        bits: bits per element as stored.
        kind: "float", "int", "uint", "bool" or "string".
        storage: the numpy type that elements are read into (sub-byte types are unpacked to one byte per element).
        compute: the torch type of its values during evaluation. float16 is computed in float32, and rounded if the
            evaluation requires it.
    """

    name: str
    code: int
    blob: int | None
    bits: int
    kind: str
    storage: np.dtype[Any]
    compute: torch.dtype

    def __str__(self) -> str:
        return self.name


_ALL = (
    DType("bool", 1, None, 8, "bool", np.dtype(np.bool_), torch.bool),
    DType("string", 2, None, 0, "string", np.dtype(np.str_), torch.uint8),
    DType("float16", 10, 1, 16, "float", np.dtype(np.float16), torch.float32),
    DType("float32", 11, 2, 32, "float", np.dtype(np.float32), torch.float32),
    DType("float64", 12, None, 64, "float", np.dtype(np.float64), torch.float64),
    DType("int8", 21, 4, 8, "int", np.dtype(np.int8), torch.int8),
    DType("int16", 22, 6, 16, "int", np.dtype(np.int16), torch.int16),
    DType("int32", 23, 14, 32, "int", np.dtype(np.int32), torch.int32),
    DType("int64", 24, None, 64, "int", np.dtype(np.int64), torch.int64),
    DType("int4", 25, 8, 4, "int", np.dtype(np.int8), torch.int8),
    DType("uint8", 31, 3, 8, "uint", np.dtype(np.uint8), torch.uint8),
    DType("uint16", 32, 7, 16, "uint", np.dtype(np.uint16), torch.int32),
    DType("uint32", 33, 15, 32, "uint", np.dtype(np.uint32), torch.int64),
    DType("uint4", 35, 11, 4, "uint", np.dtype(np.uint8), torch.uint8),
    DType("uint2", 36, 10, 2, "uint", np.dtype(np.uint8), torch.uint8),
    DType("uint1", 37, 9, 1, "uint", np.dtype(np.uint8), torch.uint8),
    DType("uint6", 38, 13, 6, "uint", np.dtype(np.uint8), torch.uint8),
    DType("uint3", 39, 12, 3, "uint", np.dtype(np.uint8), torch.uint8),
)
BY_NAME = {dtype.name: dtype for dtype in _ALL}
BY_NAME |= {"fp16": BY_NAME["float16"], "fp32": BY_NAME["float32"], "fp64": BY_NAME["float64"]}
_BY_CODE = {dtype.code: dtype for dtype in _ALL}


@dataclass(frozen=True)
class ValueType:
    """The declared type of a value.

    Attributes:
        kind: "tensor", "list" or "dictionary".
        dtype: the element type (of a dictionary: the type of its keys).
        shape: one entry per dimension, None if it is known at run time only; () for a scalar.
    """

    kind: str
    dtype: DType
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{'' if self.kind == 'tensor' else self.kind + ' of '}{self.dtype}[{dims}]"

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Returns whether a value of that shape fits the declared one."""
        if len(shape) != len(self.shape):
            return False
        return all(want is None or want == have for want, have in zip(self.shape, shape, strict=True))

    def static_shape(self) -> tuple[int, ...] | None:
        """Returns the shape. None if a dimension is unknown."""
        sizes = tuple(dim for dim in self.shape if dim is not None)
        return sizes if len(sizes) == len(self.shape) else None


def numel(shape: tuple[int, ...], what: str) -> int:
    """Returns the number of elements of `shape`, refused above `MAX_ELEMENTS`.

    Raises:
        InvalidInput: a dimension is negative or the product is too large.
    """
    if any(dim < 0 for dim in shape):
        raise InvalidInput(f"{what} has a negative dimension: {list(shape)}")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise InvalidInput(f"{what} would have {count} elements, more than the {MAX_ELEMENTS} that are accepted")
    return count


def _dimension(dim: Any) -> int | None:
    if dim.WhichOneof("dimension") == "constant":
        return int(dim.constant.size)
    return None


def read_type(message: Any, what: str) -> ValueType:
    """Reads a MIL.proto ValueType.

    Raises:
        InvalidInput: a rank that contradicts the dimensions, a shape that is too large, an element type that is not
            evaluated (bfloat16, float8, uint64), or a kind of type that no tower has (tuples, states).
    """
    kind = message.WhichOneof("type")
    if kind == "tensorType":
        tensor = message.tensorType
        if tensor.rank != len(tensor.dimensions) or tensor.rank > _MAX_RANK:
            raise InvalidInput(f"{what} declares rank {tensor.rank} with {len(tensor.dimensions)} dimensions")
        shape = tuple(_dimension(dim) for dim in tensor.dimensions)
        numel(tuple(dim for dim in shape if dim is not None), what)
        if (code := tensor.dataType) not in _BY_CODE:
            raise InvalidInput(f"{what} has the element type number {code}, which is not one that is evaluated")
        return ValueType("tensor", _BY_CODE[code], shape)
    if kind == "listType":
        element = read_type(message.listType.type, what)
        return ValueType("list", element.dtype, (_dimension(message.listType.length),))
    if kind == "dictionaryType":
        return ValueType("dictionary", read_type(message.dictionaryType.keyType, what).dtype, ())
    raise InvalidInput(f"{what} has a type of kind {kind}, which is not evaluated")
