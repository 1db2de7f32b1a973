"""Constants of a program: values written in the specification or in the weight file, read on demand.

The weight file is memory-mapped. Its layout (coremltools' MILBlob storage, version 2) begins with a 64-byte header.
Every value then has a 64-byte record (sentinel 0xDEADBEEF, element type, size in bytes, offset of the data, padding
bits of the last byte) and its data, both at multiples of 64 bytes. A value's `offset` in the program is that of its
record.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput, readable_reason
from mobileclip_deploy.targets.mil.types import BY_NAME, DType, ValueType, numel, read_type

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
class MilConstant:
    """A constant value.

    Attributes:
        type: its declared type.
        blob: its bytes in the weight file, uint8, a view; None if it is written in the specification.
        immediate: the value if it is written in the specification: a numpy array, or a list of text or of integers.
        nbytes: its size as stored.
    """

    type: ValueType
    blob: npt.NDArray[np.uint8] | None
    immediate: Any
    nbytes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape; constants have no unknown dimension."""
        return tuple(dim or 0 for dim in self.type.shape)

    def array(self) -> npt.NDArray[np.generic]:
        """Returns the value as a numpy array of the element type's storage type, in its shape. From the weight file
        whole-byte types are a view, others are unpacked to one byte per element.

        Raises:
            InvalidInput: it is a list.
        """
        if self.type.kind != "tensor":
            raise InvalidInput(f"a {self.type} is used where a tensor is expected")
        if self.blob is None:
            return np.asarray(self.immediate)
        dtype = self.type.dtype
        if dtype.bits >= 8:
            return self.blob.view(dtype.storage).reshape(self.shape)
        return unpack_bits(self.blob, dtype.bits, math.prod(self.shape), dtype.kind == "int").reshape(self.shape)

    def tensor(self) -> torch.Tensor:
        """Returns the value as a torch tensor: float16 and float32 as stored, other types in their type for arithmetic.

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


def read_constant(message: Any, weights: Callable[[str], WeightFile], what: str) -> MilConstant:
    """Reads a MIL.proto Value.

    Args:
        message: the protobuf message.
        weights: returns the weight file of a name such as "@model_path/weights/weight.bin".
        what: the value's name, for messages.

    Raises:
        InvalidInput: its type, shape, size or offset contradict each other, or are outside the weight file.
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
        return MilConstant(declared, blob, None, blob.nbytes)
    immediate = message.immediateValue
    if stored == "immediateValue" and declared.kind == "tensor" and immediate.WhichOneof("value") == "tensor":
        array = _immediate_array(immediate.tensor, declared.dtype, shape, what)
        return MilConstant(declared, None, array, -(-array.size * declared.dtype.bits // 8))
    if stored == "immediateValue" and declared.kind == "list" and immediate.WhichOneof("value") == "list":
        items = [read_constant(item, weights, what) for item in immediate.list.values]
        if len(items) != shape[0] or any(item.type.kind != "tensor" or item.shape for item in items):
            raise InvalidInput(f"the constant {what!r} is not the list of {shape[0]} scalars that it declares")
        return MilConstant(declared, None, [item.array().item() for item in items], 0)
    raise InvalidInput(f"the constant {what!r} holds no value of its type {declared}")


_ALIGNMENT = 64
_HEADER = struct.Struct("<II56x")
_RECORD = struct.Struct("<IIQQQ32x")
_SENTINEL = 0xDEADBEEF
_VERSION = 2


def unpack_bits(packed: npt.NDArray[np.uint8], bits: int, count: int, signed: bool) -> npt.NDArray[np.generic]:
    """Unpacks elements of `bits` < 8 bits, packed least significant bit first without gaps.

    Args:
        packed: uint8 [ceil(count * bits / 8)].
        bits: bits per element, 1 to 7.
        count: number of elements.
        signed: True if elements are in two's complement.

    Returns:
        uint8 [count], or int8 if signed.
    """
    # A group of 8 elements fills exactly `bits` bytes; the groups are read as one integer each.
    groups = -(-count // 8)
    whole = np.zeros(groups * bits, np.uint8)
    whole[: packed.size] = packed
    words = np.zeros(groups, np.uint64)
    for byte in range(bits):
        words |= whole[byte::bits].astype(np.uint64) << np.uint64(8 * byte)
    spread = np.empty((groups, 8), np.uint8)
    for index in range(8):
        spread[:, index] = (words >> np.uint64(bits * index)) & np.uint64(2**bits - 1)
    values = spread.reshape(-1)[:count]
    if signed:
        sign = np.uint8(1 << (bits - 1))
        return ((values ^ sign).astype(np.int8) - sign.astype(np.int8)).astype(np.int8)
    return values


class WeightFile:
    """A weight file, mapped into memory. Writes to its views are private to the process and do not reach the file.

    Raises:
        InvalidInput: it cannot be read, is truncated, or has another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                self.size = os.fstat(stream.fileno()).st_size
                if self.size < _HEADER.size:
                    raise InvalidInput(f"{path} is truncated: {self.size} bytes")
                self._map = mmap.mmap(stream.fileno(), self.size, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {readable_reason(error)}") from None
        version = _HEADER.unpack_from(self._map, 0)[1]
        if version != _VERSION:
            raise InvalidInput(f"{path} has storage version {version}, expected {_VERSION}")

    def blob(self, offset: int, dtype: DType, count: int, what: str) -> npt.NDArray[np.uint8]:
        """Returns the bytes of the value whose record is at `offset`: a view of the file.

        Args:
            offset: of the record, in bytes.
            dtype: the element type that the program declares.
            count: the number of elements that the program declares.
            what: the value's name, for messages.

        Raises:
            InvalidInput: the record or its data is outside the file, is misaligned, or contradicts the program.
        """
        where = f"{self.path}: the value {what!r} at offset {offset}"
        if offset % _ALIGNMENT or not _HEADER.size <= offset <= self.size - _RECORD.size:
            raise InvalidInput(f"{where} is not a record of the file, which holds {self.size} bytes")
        sentinel, code, size, start, padding = _RECORD.unpack_from(self._map, offset)
        if sentinel != _SENTINEL:
            raise InvalidInput(f"{where} has no record there (sentinel {sentinel:#x})")
        if start % _ALIGNMENT or start < offset + _RECORD.size or start + size > self.size:
            raise InvalidInput(f"{where} has {size} bytes of data at {start}, outside the file of {self.size} bytes")
        if code != dtype.blob:
            stored = next((known.name for known in BY_NAME.values() if known.blob == code), f"of type {code}")
            raise InvalidInput(f"{where} is {stored} in the file, {dtype} in the program")
        expected = -(-count * dtype.bits // 8)
        if size != expected or (dtype.bits < 8 and padding != expected * 8 - count * dtype.bits):
            raise InvalidInput(f"{where} has {size} bytes of data, but its shape needs {expected}")
        return np.frombuffer(self._map, np.uint8, size, start)
