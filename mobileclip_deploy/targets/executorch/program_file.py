"""Contents of a .pte file, read from its bytes only: its method, its constants, and the compiled parts.

Follows `schema/program.fbs` of ExecuTorch 1.5 (file identifier ET12): a flatbuffer, an extended header with magic
`eh00` in it, followed by data segments. Nothing of executorch is imported, so files can be inspected without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.flatbuffer import array, at, read, schema
from mobileclip_deploy.targets.values import TensorInfo

HEADER_MAGIC = b"eh00"
SCHEMA = schema("program")
# ScalarType of ExecuTorch's and torch's schema.
DTYPES = {0: "u1", 1: "i1", 2: "<i2", 3: "<i4", 4: "<i8", 5: "<f2", 6: "<f4", 7: "<f8", 11: "?"}

Fields = dict[str, Any]


@dataclass(frozen=True)
class ProgramFile:
    """A .pte file.

    Attributes:
        fields: the flatbuffer's whole table `Program`.
        size: bytes of the flatbuffer with its header.
        segments: the data after it.
    """

    fields: Fields
    size: int
    segments: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> ProgramFile:
        """Parses the bytes of a file.

        Raises:
            Malformed, IndexError: it has another format, is cut off or damaged.
        """
        fields = SCHEMA.decoded(data)
        base, size = 0, len(data)
        if data[8:12] == HEADER_MAGIC:
            size, base = read(data, "<Q", 16), read(data, "<Q", 24)
        ranges = [(base + segment["offset"], segment["size"]) for segment in fields["segments"]]
        if size > len(data) or any(start + length > len(data) for start, length in ranges):
            raise Malformed(f"it is truncated: {len(data)} bytes, but parts of it are beyond them")
        program = cls(fields, size, tuple(data[start : start + length] for start, length in ranges))
        _ = program.inputs, program.outputs, program.operators, program.bytes_by_kind  # raises any error now
        return program

    @cached_property
    def plan(self) -> Fields:
        """The method `forward`."""
        methods = {plan["name"]: plan for plan in self.fields["plans"]}
        if "forward" not in methods:
            raise Malformed(f"it has no method forward, only {', '.join(map(str, methods)) or 'none'}")
        return methods["forward"]

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs, named by position, since a .pte has no names. The first size is 0 if the batch is free, the last if
        ids may be shorter."""
        return tuple(_info(f"input_{index}", self.tensor(value)) for index, value in enumerate(self.plan["inputs"]))

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(f"output_{index}", self.tensor(value)) for index, value in enumerate(self.plan["outputs"]))

    @cached_property
    def delegates(self) -> tuple[tuple[str, bytes], ...]:
        """Parts that backends run, in the method's order: the backend's id, and the compiled part."""
        return tuple((entry["id"], self.payload(entry)) for entry in self.plan["delegates"])

    @property
    def backends(self) -> tuple[str, ...]:
        """Ids of the backends needed to run the file, without repetition."""
        return tuple(sorted({backend for backend, _ in self.delegates}))

    @property
    def operators(self) -> dict[str, int]:
        """Number of calls of each kernel outside of the delegates."""
        operators = [
            at(self.plan["operators"], call[1]["index"], "operator")
            for chain in self.plan["chains"]
            for call in (instruction["call"] for instruction in chain["instructions"])
            if call is not None and call[0] == "KernelCall"
        ]
        return dict(Counter(".".join(filter(None, (operator["name"], operator["overload"]))) for operator in operators))

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes of the program, of constants, of named data, and of each backend's parts, without zeros."""
        named = {entry["segment"] for entry in self.fields["named_data"]}
        kinds = Counter(
            program=self.size,
            constants=len(self.constants[0]),
            shared_weights=sum(len(self.segments[index]) for index in named if index < len(self.segments)),
        )
        for backend, payload in self.delegates:
            kinds[backend] += len(payload)
        return {kind: count for kind, count in kinds.items() if count}

    @property
    def constants(self) -> tuple[bytes, tuple[int, ...]]:
        """Data of all constants, and the offset of each."""
        segment = self.fields["constants"]
        if not segment or not segment["offsets"]:
            return b"", ()
        return at(self.segments, segment["segment"], "segment"), segment["offsets"]

    @cached_property
    def named(self) -> Mapping[str, bytes]:
        """Data that parts share, by name."""
        entries = self.fields["named_data"]
        named = {entry["key"]: at(self.segments, entry["segment"], "segment") for entry in entries}
        if len(named) != len(entries):
            raise Malformed("two of its data blobs have the same name")
        return named

    def payload(self, delegate: Fields) -> bytes:
        """Returns the compiled part of a delegate."""
        inline = tuple(blob["data"] for blob in self.fields["inline"])
        reference = delegate["processed"] or {"location": 0, "index": len(inline)}
        parts = self.segments if reference["location"] else inline
        return at(parts, reference["index"], f"part compiled for {delegate['id']}")

    def tensor(self, value: int) -> Fields:
        """Returns a tensor among the values of `plan`; its `sizes` are the largest that it may have."""
        entry = at(self.plan["values"], value, "value")["value"]
        if entry is None or entry[0] != "Tensor":
            raise Malformed("an input or output is not a tensor")
        tensor: Fields = entry[1]
        return tensor


def dtype_of(tensor: Fields) -> np.dtype[Any]:
    """Returns the type of a tensor's elements.

    Raises:
        Malformed: the type is unknown, or a size is negative.
    """
    if tensor["scalar_type"] not in DTYPES or any(size < 0 for size in tensor["sizes"]):
        raise Malformed(f"a tensor has type {tensor['scalar_type']} and shape {list(tensor['sizes'])}")
    return np.dtype(DTYPES[tensor["scalar_type"]])


def numbers_of(tensor: Fields, data: bytes, start: int = 0) -> npt.NDArray[Any]:
    """Returns the elements of a tensor, which are stored in the tensor's own order of dimensions."""
    sizes, dtype = tensor["sizes"], dtype_of(tensor)
    order = tuple(tensor["dim_order"]) or tuple(range(len(sizes)))
    if sorted(order) != list(range(len(sizes))):
        raise Malformed(f"a tensor has dimensions in the order {list(order)}")
    stored = array(data, dtype, count_of(tensor), start)
    return stored.reshape([sizes[dimension] for dimension in order]).transpose(np.argsort(order))


def count_of(tensor: Fields) -> int:
    """Returns the number of a tensor's elements."""
    return int(np.prod(tensor["sizes"], dtype=object))


def _info(name: str, tensor: Fields) -> TensorInfo:
    sizes, code = tuple(tensor["sizes"]), tensor["scalar_type"]
    if tensor["dynamism"] and sizes:  # the file has the largest sizes; a free batch is above 1
        sizes = (0, *sizes[1:]) if sizes[0] > 1 else (*sizes[:-1], 0)
    return TensorInfo(name, np.dtype(DTYPES[code]).name if code in DTYPES else f"type {code}", sizes)
