"""What a .pte file holds, read from its bytes alone: its one method, constants, and what its parts were compiled to.

After `schema/program.fbs` of ExecuTorch 1.5 (file identifier ET12): a flatbuffer, an extended header with magic `eh00`
in it, and data segments behind it. Nothing of executorch is imported, so files can be inspected without it.
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
        fields: the table `Program` of its flatbuffer, whole.
        size: of the flatbuffer with its header, in bytes.
        segments: the data behind it.
    """

    fields: Fields
    size: int
    segments: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> ProgramFile:
        """The bytes of a file.

        Raises:
            Malformed, IndexError: it is of another format, cut off or damaged.
        """
        fields = SCHEMA.decoded(data)
        base, size = 0, len(data)
        if data[8:12] == HEADER_MAGIC:
            size, base = read(data, "<Q", 16), read(data, "<Q", 24)
        places = [(base + segment["offset"], segment["size"]) for segment in fields["segments"]]
        if size > len(data) or any(start + length > len(data) for start, length in places):
            raise Malformed(f"it is cut off: {len(data)} bytes, and parts of it would lie behind them")
        found = cls(fields, size, tuple(data[start : start + length] for start, length in places))
        _ = found.inputs, found.outputs, found.operators, found.bytes_by_kind  # whatever is wrong is said at once
        return found

    @cached_property
    def plan(self) -> Fields:
        """The method `forward`."""
        methods = {plan["name"]: plan for plan in self.fields["plans"]}
        if "forward" not in methods:
            raise Malformed(f"it has no method forward, only {', '.join(map(str, methods)) or 'none'}")
        return methods["forward"]

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Called by position, since a .pte has no names; the first size is 0 where the batch is free, the last where
        ids may be shorter."""
        return tuple(_info(f"input_{place}", self.tensor(value)) for place, value in enumerate(self.plan["inputs"]))

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(f"output_{place}", self.tensor(value)) for place, value in enumerate(self.plan["outputs"]))

    @cached_property
    def delegates(self) -> tuple[tuple[str, bytes], ...]:
        """The parts that backends run, in the order in which the method lists them: the backend's id, and what the part
        was compiled to."""
        return tuple((entry["id"], self.payload(entry)) for entry in self.plan["delegates"])

    @property
    def backends(self) -> tuple[str, ...]:
        """Ids of the backends that are needed to run it, each once."""
        return tuple(sorted({backend for backend, _ in self.delegates}))

    @property
    def operators(self) -> dict[str, int]:
        """How often each kernel outside of the delegates is called."""
        called = [
            at(self.plan["operators"], call[1]["index"], "operator")
            for chain in self.plan["chains"]
            for call in (instruction["call"] for instruction in chain["instructions"])
            if call is not None and call[0] == "KernelCall"
        ]
        return dict(Counter(".".join(filter(None, (one["name"], one["overload"]))) for one in called))

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes of the program, of constants, of data with names, and of each backend's parts; none that are 0."""
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
        """The data of all constants, and where each begins."""
        found = self.fields["constants"]
        if not found or not found["offsets"]:
            return b"", ()
        return at(self.segments, found["segment"], "segment"), found["offsets"]

    @cached_property
    def named(self) -> Mapping[str, bytes]:
        """The data that parts share, by name."""
        entries = self.fields["named_data"]
        named = {entry["key"]: at(self.segments, entry["segment"], "segment") for entry in entries}
        if len(named) != len(entries):
            raise Malformed("two of its data have one name")
        return named

    def payload(self, delegate: Fields) -> bytes:
        """What a delegate was compiled to."""
        inline = tuple(blob["data"] for blob in self.fields["inline"])
        reference = delegate["processed"] or {"location": 0, "index": len(inline)}
        held = self.segments if reference["location"] else inline
        return at(held, reference["index"], f"part compiled for {delegate['id']}")

    def tensor(self, value: int) -> Fields:
        """A tensor among the values of `plan`; its `sizes` are the largest that it may have."""
        found = at(self.plan["values"], value, "value")["value"]
        if found is None or found[0] != "Tensor":
            raise Malformed("an input or output is not a tensor")
        tensor: Fields = found[1]
        return tensor


def dtype_of(tensor: Fields) -> np.dtype[Any]:
    """The type of a tensor's numbers; Malformed where it has none, or a negative size."""
    if tensor["scalar_type"] not in DTYPES or any(size < 0 for size in tensor["sizes"]):
        raise Malformed(f"a tensor has type {tensor['scalar_type']} and shape {list(tensor['sizes'])}")
    return np.dtype(DTYPES[tensor["scalar_type"]])


def numbers_of(tensor: Fields, data: bytes, start: int = 0) -> npt.NDArray[Any]:
    """The numbers of a tensor, which stand in the order of its dimensions that it names."""
    sizes, dtype = tensor["sizes"], dtype_of(tensor)
    order = tuple(tensor["dim_order"]) or tuple(range(len(sizes)))
    if sorted(order) != list(range(len(sizes))):
        raise Malformed(f"a tensor has dimensions in the order {list(order)}")
    stored = array(data, dtype, count_of(tensor), start)
    return stored.reshape([sizes[dimension] for dimension in order]).transpose(np.argsort(order))


def count_of(tensor: Fields) -> int:
    """How many numbers a tensor has."""
    return int(np.prod(tensor["sizes"], dtype=object))


def _info(name: str, tensor: Fields) -> TensorInfo:
    sizes, code = tuple(tensor["sizes"]), tensor["scalar_type"]
    if tensor["dynamism"] and sizes:  # the file has the largest sizes; a batch that is free is one of several
        sizes = (0, *sizes[1:]) if sizes[0] > 1 else (*sizes[:-1], 0)
    return TensorInfo(name, np.dtype(DTYPES[code]).name if code in DTYPES else f"type {code}", sizes)
