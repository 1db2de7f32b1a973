"""A `.mlxfn` file as data: what MLX writes, byte by byte (mlx/export.cpp, 0.32.4), read without MLX.

It says each operation with its settings and the shape of its result, and constants between them. MLX calls values by
their addresses and writes the device that traced them; here they have numbers in their order, so that the same function
gives the same bytes, and the device is the one that it is written for.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import Malformed, refusing

Device = Literal["cpu", "gpu"]
DEVICES: tuple[Device, ...] = ("cpu", "gpu")
DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
# The settings of each operation that a tower is made of: i and f for a number, b for a truth value, I for a list of
# integers, t for a type.
_NONE = "Abs Add Divide Erf Exp Matmul Maximum Minimum Multiply Negative Power Sigmoid Square Subtract Tanh"
_LISTS = "Broadcast ExpandDims Reshape Squeeze Transpose"
_OTHERS = "AsType t,BitwiseBinary i,Concatenate i,Convolution IIIIIib,Equal b,Flatten ii,Gather II,Unflatten iI"
_OTHERS += ",QuantizedMatmul iiib,Reduce iI,Slice III,Softmax b,Sqrt b"
STATES = dict.fromkeys(_NONE.split(), "") | dict.fromkeys(_LISTS.split(), "I")
STATES |= dict(one.split() for one in _OTHERS.split(","))
FORMS = {"i": "<i", "f": "<f", "b": "<B"}
METADATA_SINCE = [0, 32, 2]
EARLIER = "0.32.1"
STREAM = "<iii"  # its number, the kind of its device, the number of that


@dataclass(frozen=True)
class Declared:
    """Type and shape of a value, as the file says them."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A constant."""

    numbers: npt.NDArray[Any]


@dataclass(frozen=True)
class Operation:
    """An operation. `inputs`: numbers of values; `settings`: as STATES says; `result`: what the file says of it."""

    name: str
    inputs: tuple[int, ...]
    settings: tuple[Any, ...]
    result: Declared


@dataclass(frozen=True)
class MlxFunction:
    """One function. Values have numbers: `inputs` first, then one per step.

    Attributes:
        version: of the MLX that wrote it; `metadata`: a text beside it, None in files of MLX before 0.32.2, which have
            none.
        device: where its operations run.
        steps: operations and constants, each behind what it takes.
        results: the numbers of what it returns.
        names, streams, said: where in the file stands what `rewritten` changes: the names of values, each with its
            number; streams with their devices; the metadata, from and to.
    """

    version: str
    metadata: str | None
    device: Device
    inputs: tuple[Declared, ...]
    steps: tuple[Operation | Value, ...]
    results: tuple[int, ...]
    names: tuple[tuple[int, int], ...] = field(repr=False, compare=False)
    streams: tuple[int, ...] = field(repr=False, compare=False)
    said: tuple[int, int] = field(repr=False, compare=False)


def read_function(path: Path) -> MlxFunction:
    """Read a file.

    Raises:
        InvalidInput: it is damaged, or is nothing that an export here writes: several functions, named inputs, an
            operation that no tower has.
    """
    with refusing(f"{path} is not a readable MLX function", OSError, ValueError, struct.error):
        return _Reader(path.read_bytes()).function()


def rewritten(data: bytes, function: MlxFunction, device: Device, metadata: str | None) -> bytes:
    """A file with other names of values, their numbers; for a device; with other metadata, or in the form without."""
    out = bytearray(data)
    for place, number in function.names:
        struct.pack_into("<Q", out, place, number)
    for place in function.streams:
        struct.pack_into(STREAM, out, place, DEVICES.index(device), DEVICES.index(device), 0)
    encoded = b"" if metadata is None else metadata.encode()
    start, end = function.said
    out[start:end] = b"" if metadata is None else struct.pack("<Q", len(encoded)) + encoded
    if metadata is None:  # by its version alone the form is known
        out[: 8 + len(function.version)] = struct.pack("<Q", len(EARLIER)) + EARLIER.encode()
    return bytes(out)


class _Reader:
    """Reads a file from its beginning. Each method raises Malformed where it is not as an export here writes it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._numbers: dict[int, int] = {}  # what the file calls a value -> its number here
        self._devices: set[int] = set()
        self._names: list[tuple[int, int]] = []
        self._streams: list[int] = []

    def function(self) -> MlxFunction:
        version = self.text()
        if self.number("i") != 1 or self.number("b"):
            raise Malformed("it holds another number of functions than one, or one of any shape")
        before = self._at
        # Nothing but the version tells the two forms apart.
        since = [int(part) for part in version.split(".") if part.isdigit()]
        said = self.text() if since >= METADATA_SINCE else None
        place = before, self._at
        if self.size():
            raise Malformed("its inputs have names")
        names = self.names()
        inputs = tuple(self.declared() for _ in range(self.size()))
        if not len(inputs) == len(names) == len({*names}):
            raise Malformed("its inputs are not told apart")
        self._numbers = {name: number for number, name in enumerate(names)}
        results = self.names()
        steps: list[Operation | Value] = []
        for _ in range(self.size()):
            (name,) = self.names(1)
            step = self.step()
            if (step is None) != (name in names) or (step is not None and name in self._numbers):
                raise Malformed("a value is an input and computed, or computed twice")
            if step is not None:
                self._numbers[name] = len(names) + len(steps)
                steps.append(step)
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} bytes behind its end")
        if len(self._devices) > 1 or not self._devices <= {*range(len(DEVICES))}:
            raise Malformed("its operations run on several devices")
        device = DEVICES[next(iter(self._devices), 0)]
        if not {*results} <= self._numbers.keys():
            raise Malformed("it returns a value that nothing computes")
        told = tuple(self._numbers[name] for name in results)
        named = tuple((at, self._numbers[name]) for at, name in self._names)
        return MlxFunction(version, said, device, inputs, tuple(steps), told, named, tuple(self._streams), place)

    def step(self) -> Operation | Value | None:
        """What stands behind a name; None for an input."""
        if self.number("b"):
            inputs = tuple(map(self.known, self.names()))
            self._streams.append(self._at)
            _, device, which = struct.unpack(STREAM, self.take(struct.calcsize(STREAM)))
            self._devices.add(device)
            if which:
                raise Malformed("it runs on another device than the first")
            name = self.text()
            if name not in STATES:
                raise Malformed(f"it holds the operation {name[:80]!r}, which no export writes")
            settings = tuple(self.setting(kind) for kind in STATES[name])
            if self.size():
                raise Malformed(f"{name} has several results")
            return Operation(name, inputs, settings, self.declared())
        if not self.number("b"):
            return None
        declared = self.declared()
        count = math.prod(declared.shape)
        taken = self.take(count * np.dtype(declared.dtype).itemsize)
        return Value(np.frombuffer(taken, declared.dtype).reshape(declared.shape))

    def known(self, name: int) -> int:
        if name not in self._numbers:
            raise Malformed("it takes a value that nothing before it computes")
        return self._numbers[name]

    def setting(self, kind: str) -> Any:
        return self.integers() if kind == "I" else self.dtype() if kind == "t" else self.number(kind)

    def take(self, count: int) -> memoryview:
        if count > len(self._data) - self._at:
            raise Malformed("it ends too early")
        self._at += count
        return memoryview(self._data)[self._at - count : self._at]

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack(FORMS[kind], self.take(struct.calcsize(FORMS[kind])))
        if kind == "b" and value > 1:
            raise Malformed("a truth value that is neither")
        return bool(value) if kind == "b" else value

    def size(self) -> int:
        (value,) = struct.unpack("<Q", self.take(8))
        return int(value)

    def names(self, count: int | None = None) -> tuple[int, ...]:
        """Names of values, as many as stand before them."""
        count = self.size() if count is None else count
        start = self._at
        found = struct.unpack(f"<{count}Q", self.take(8 * count))
        self._names += [(start + 8 * index, name) for index, name in enumerate(found)]
        return found

    def integers(self) -> tuple[int, ...]:
        return struct.unpack(f"<{(count := self.size())}i", self.take(4 * count))

    def text(self) -> str:
        return str(self.take(self.size()), "utf-8")

    def dtype(self) -> str:
        value, size = struct.unpack("<iB", self.take(5))
        if not 0 <= value < len(DTYPES) or np.dtype(DTYPES[value]).itemsize != size:
            raise Malformed("a type of numbers that no export writes")
        return DTYPES[value]

    def declared(self) -> Declared:
        shape = self.integers()
        if any(size < 0 for size in shape):
            raise Malformed("a shape below 0")
        return Declared(self.dtype(), shape)
