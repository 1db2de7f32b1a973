"""Constants of a program: values written in the specification or in the weight file, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil.blob import Blob, WeightFile, unpack_bits
from mobileclip_deploy.mil.types import DType, ValueType, numel, read_type

__all__ = ["Constant", "read_constant"]

_IN_BYTES = {"float16", "int8", "uint8", "uint32", "int4", "uint1", "uint2", "uint3", "uint4", "uint6"}
_FIELDS = {
    "bool": "bools",
    "string": "strings",
    "float32": "floats",
    "float64": "doubles",
    "int16": "ints",
    "uint16": "ints",
    "int32": "ints",
    "int64": "longInts",
}


@dataclass(frozen=True)
class Constant:
    """A constant value.

    Attributes:
        type: its declared type.
        blob: where it lies in the weight file; None when it is written in the specification.
        immediate: the value when it is written in the specification: a numpy array, or a list of text or of integers.
        nbytes: its size as stored.
    """

    type: ValueType
    blob: Blob | None
    immediate: Any
    nbytes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; constants have no unknown dimension."""
        return tuple(dim or 0 for dim in self.type.shape)

    def array(self) -> npt.NDArray[np.generic]:
        """The value as a numpy array of the element type's storage type, in its shape.

        Raises:
            InvalidInput: it is a list.
        """
        if self.type.kind != "tensor":
            raise InvalidInput(f"a {self.type} is used where a tensor is expected")
        if self.blob is None:
            return np.asarray(self.immediate)
        return self.blob.read().reshape(self.shape)

    def tensor(self) -> torch.Tensor:
        """The value as a torch tensor: float16 and float32 as stored, other types in their type for arithmetic.

        Raises:
            InvalidInput: it is a list or text.
        """
        if self.type.dtype.kind == "string":
            raise InvalidInput("text is used where a tensor of numbers is expected")
        array = self.array()
        dtype = self.type.dtype
        if dtype.kind == "float":
            return torch.from_numpy(array)
        widened = {"uint16": np.int32, "uint32": np.int64}.get(dtype.name)
        return torch.from_numpy(array if widened is None else array.astype(widened))


def _immediate_array(tensor: Any, dtype: DType, shape: tuple[int, ...], what: str) -> npt.NDArray[np.generic]:
    count = numel(shape, what)
    used = tensor.WhichOneof("value")
    field = "bytes" if dtype.name in _IN_BYTES else _FIELDS[dtype.name]
    if used != field and not (used is None and count == 0):
        raise InvalidInput(f"the constant {what!r} declares {dtype} and holds {used or 'nothing'}")
    if field == "bytes":
        data = np.frombuffer(bytearray(tensor.bytes.values), np.uint8)
        if data.size != -(-count * dtype.bits // 8):
            raise InvalidInput(f"the constant {what!r} holds {data.size} bytes, not what {list(shape)} needs")
        if dtype.bits < 8:
            return unpack_bits(data, dtype.bits, count, dtype.kind == "int").reshape(shape)
        return data.view(dtype.storage).reshape(shape)
    values = getattr(tensor, field).values if used else []
    if len(values) != count:
        raise InvalidInput(f"the constant {what!r} holds {len(values)} elements, not what {list(shape)} needs")
    try:
        return np.array(values, dtype=dtype.storage).reshape(shape)
    except (OverflowError, ValueError):
        raise InvalidInput(f"the constant {what!r} holds values outside {dtype}") from None


def read_constant(message: Any, weights: Callable[[str], WeightFile], what: str) -> Constant:
    """Read a MIL.proto Value.

    Args:
        message: the protobuf message.
        weights: gives the weight file of a name such as "@model_path/weights/weight.bin".
        what: the value's name, for messages.

    Raises:
        InvalidInput: its type, shape, size or place contradict each other, or lie outside the weight file.
    """
    declared = read_type(message.type, f"the constant {what!r}")
    shape = declared.static_shape()
    if shape is None:
        raise InvalidInput(f"the constant {what!r} has an unknown dimension")
    stored = message.WhichOneof("value")
    if stored == "blobFileValue":
        if declared.kind != "tensor":
            raise InvalidInput(f"the constant {what!r} is a {declared.kind} in the weight file")
        file = weights(message.blobFileValue.fileName)
        blob = file.blob(message.blobFileValue.offset, declared.dtype, numel(shape, what), what)
        return Constant(declared, blob, None, blob.size)
    immediate = message.immediateValue
    if stored == "immediateValue" and declared.kind == "tensor" and immediate.WhichOneof("value") == "tensor":
        array = _immediate_array(immediate.tensor, declared.dtype, shape, what)
        return Constant(declared, None, array, -(-array.size * declared.dtype.bits // 8))
    if stored == "immediateValue" and declared.kind == "list" and immediate.WhichOneof("value") == "list":
        items = [read_constant(item, weights, what) for item in immediate.list.values]
        if len(items) != shape[0] or any(item.type.kind != "tensor" or item.shape for item in items):
            raise InvalidInput(f"the constant {what!r} is not the list of {shape[0]} scalars that it declares")
        return Constant(declared, None, [item.array().item() for item in items], 0)
    raise InvalidInput(f"the constant {what!r} holds no value of its type {declared}")
