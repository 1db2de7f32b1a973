"""A `.mlxfn` file as data: MLX's format, byte by byte (mlx/export.cpp, 0.32.4), read without MLX.

It lists each operation with its settings and the shape of its result, and constants between them. MLX names values by
their addresses and writes the device that traced them. Here values are numbered in order, so that the same function
gives the same bytes, and the device is the intended one.
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import Malformed, Unread, reraising

Device = Literal["cpu", "gpu"]
DEVICES: tuple[Device, ...] = ("cpu", "gpu")
DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
# Settings of each operation that a tower uses: i and f for a number, b for a truth value, I for a list of integers, t
# for a type.
_NONE = "Abs Add Divide Erf Exp Matmul Maximum Minimum Multiply Negative Power Sigmoid Square Subtract Tanh"
_LISTS = "Broadcast ExpandDims Reshape Squeeze Transpose"
_OTHERS = "AsType t,BitwiseBinary i,Concatenate i,Convolution IIIIIib,Equal b,Flatten ii,Gather II,Unflatten iI"
_OTHERS += ",QuantizedMatmul iiib,Reduce iI,Slice III,Softmax b,Sqrt b"
STATES = dict.fromkeys(_NONE.split(), "") | dict.fromkeys(_LISTS.split(), "I")
STATES |= dict(entry.split() for entry in _OTHERS.split(","))
FORMS = {"i": "<i", "f": "<f", "b": "<B"}
METADATA_SINCE = [0, 32, 2]
EARLIER = "0.32.1"
STREAM = "<iii"  # its index, the kind of its device, the index of that


@dataclass(frozen=True)
class Declared:
    """Type and shape of a value, as the file declares them."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A constant."""

    numbers: npt.NDArray[Any]


@dataclass(frozen=True)
class MlxOperation:
    """An operation. `inputs`: indices of values; `settings`: in the order of STATES; `result`: its declared type and
    shape."""

    name: str
    inputs: tuple[int, ...]
    settings: tuple[Any, ...]
    result: Declared


@dataclass(frozen=True)
class MlxFunction:
    """One function. Values are numbered: `inputs` first, then one per step.

    Attributes:
        version: of the MLX that wrote it; `metadata`: its text, None in files of MLX before 0.32.2, which have none.
        device: of its operations.
        steps: operations and constants, each after its inputs.
        results: indices of the returned values.
        names, streams, said: positions in the file that `rewritten` changes: the names of values, each with its index;
            streams with their devices; start and end of the metadata.
    """

    version: str
    metadata: str | None
    device: Device
    inputs: tuple[Declared, ...]
    steps: tuple[MlxOperation | Value, ...]
    results: tuple[int, ...]
    names: tuple[tuple[int, int], ...] = field(repr=False, compare=False)
    streams: tuple[int, ...] = field(repr=False, compare=False)
    said: tuple[int, int] = field(repr=False, compare=False)


def read_function(path: Path) -> MlxFunction:
    """Reads a file.

    Raises:
        InvalidInput: it is damaged, or has a feature that no export here writes: several functions, named inputs, an
            operation that no tower has.
    """
    with reraising(f"{path} is not a readable MLX function", OSError, ValueError, struct.error):
        return _Reader(path.read_bytes()).function()


def rewritten(data: bytes, function: MlxFunction, device: Device, metadata: str | None) -> bytes:
    """Returns a file with values named by their indices, for a device, with other metadata or in the form without."""
    out = bytearray(data)
    for offset, index in function.names:
        struct.pack_into("<Q", out, offset, index)
    for offset in function.streams:
        struct.pack_into(STREAM, out, offset, DEVICES.index(device), DEVICES.index(device), 0)
    encoded = b"" if metadata is None else metadata.encode()
    start, end = function.said
    out[start:end] = b"" if metadata is None else struct.pack("<Q", len(encoded)) + encoded
    if metadata is None:  # the version alone decides the form
        out[: 8 + len(function.version)] = struct.pack("<Q", len(EARLIER)) + EARLIER.encode()
    return bytes(out)


class _Reader:
    """Parser of a file. Each method raises Malformed if the file is not as an export here writes it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._numbers: dict[int, int] = {}  # name of a value in the file -> its index here
        self._devices: set[int] = set()
        self._names: list[tuple[int, int]] = []
        self._streams: list[int] = []

    def function(self) -> MlxFunction:
        version = self.text()
        if self.number("i") != 1 or self.number("b"):
            raise Unread("it has more or fewer than one function, or one of any shape")
        before = self._at
        # Only the version decides between the two forms.
        since = [int(part) for part in version.split(".") if part.isdigit()]
        metadata = self.text() if since >= METADATA_SINCE else None
        metadata_range = before, self._at
        if self.size():
            raise Unread("its inputs have names")
        names = self.names()
        inputs = tuple(self.declared() for _ in range(self.size()))
        if not len(inputs) == len(names) == len({*names}):
            raise Malformed("its inputs have no distinct names")
        self._numbers = {name: index for index, name in enumerate(names)}
        results = self.names()
        steps: list[MlxOperation | Value] = []
        for _ in range(self.size()):
            (name,) = self.names(1)
            step = self.step()
            if (step is None) != (name in names) or (step is not None and name in self._numbers):
                raise Malformed("a value is an input and computed, or computed twice")
            if step is not None:
                self._numbers[name] = len(names) + len(steps)
                steps.append(step)
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} extra bytes after its end")
        if len(self._devices) > 1 or not self._devices <= {*range(len(DEVICES))}:
            raise Malformed("its operations run on several devices")
        device = DEVICES[next(iter(self._devices), 0)]
        if not {*results} <= self._numbers.keys():
            raise Malformed("it returns a value that is never computed")
        returned = tuple(self._numbers[name] for name in results)
        positions = tuple((offset, self._numbers[name]) for offset, name in self._names)
        return MlxFunction(
            version, metadata, device, inputs, tuple(steps), returned, positions, tuple(self._streams), metadata_range
        )

    def step(self) -> MlxOperation | Value | None:
        """Reads the value after a name. None for an input."""
        if self.number("b"):
            inputs = tuple(map(self.known, self.names()))
            self._streams.append(self._at)
            _, device, device_index = struct.unpack(STREAM, self.take(struct.calcsize(STREAM)))
            self._devices.add(device)
            if device_index:
                raise Malformed("it runs on another device than the first")
            name = self.text()
            if name not in STATES:
                raise Unread(f"it holds the operation {name[:80]!r}, which exports never write")
            settings = tuple(self.setting(kind) for kind in STATES[name])
            if self.size():
                raise Malformed(f"{name} has several results")
            return MlxOperation(name, inputs, settings, self.declared())
        if not self.number("b"):
            return None
        declared = self.declared()
        count = math.prod(declared.shape)
        content = self.take(count * np.dtype(declared.dtype).itemsize)
        return Value(np.frombuffer(content, declared.dtype).reshape(declared.shape))

    def known(self, name: int) -> int:
        if name not in self._numbers:
            raise Malformed("it uses a value before it is computed")
        return self._numbers[name]

    def setting(self, kind: str) -> Any:
        return self.integers() if kind == "I" else self.dtype() if kind == "t" else self.number(kind)

    def take(self, count: int) -> memoryview:
        if count > len(self._data) - self._at:
            raise Malformed("it is truncated")
        self._at += count
        return memoryview(self._data)[self._at - count : self._at]

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack(FORMS[kind], self.take(struct.calcsize(FORMS[kind])))
        if kind == "b" and value > 1:
            raise Malformed("a boolean that is neither 0 nor 1")
        return bool(value) if kind == "b" else value

    def size(self) -> int:
        (value,) = struct.unpack("<Q", self.take(8))
        return int(value)

    def names(self, count: int | None = None) -> tuple[int, ...]:
        """Reads names of values, by default with their count before them."""
        count = self.size() if count is None else count
        start = self._at
        read = struct.unpack(f"<{count}Q", self.take(8 * count))
        self._names += [(start + 8 * index, name) for index, name in enumerate(read)]
        return read

    def integers(self) -> tuple[int, ...]:
        return struct.unpack(f"<{(count := self.size())}i", self.take(4 * count))

    def text(self) -> str:
        return str(self.take(self.size()), "utf-8")

    def dtype(self) -> str:
        value, size = struct.unpack("<iB", self.take(5))
        if not 0 <= value < len(DTYPES) or np.dtype(DTYPES[value]).itemsize != size:
            raise Malformed("an element type that exports never write")
        return DTYPES[value]

    def declared(self) -> Declared:
        shape = self.integers()
        if any(size < 0 for size in shape):
            raise Malformed("a negative shape")
        return Declared(self.dtype(), shape)
