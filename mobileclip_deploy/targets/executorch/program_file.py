"""What a .pte file holds, read from its bytes alone: its one method, constants, and what its parts were compiled to.

After `schema/program.fbs` of ExecuTorch 1.5 (file identifier ET12): a flatbuffer, an extended header with magic `eh00`
in it, and data segments behind it. Nothing of executorch is imported, so files can be inspected without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.flatbuffer import at, read, read_file, schema

HEADER_MAGIC = b"eh00"
SCHEMA = schema("program")
# ScalarType of ExecuTorch's and torch's schema.
DTYPES = {0: "u1", 1: "i1", 2: "<i2", 3: "<i4", 4: "<i8", 5: "<f2", 6: "<f4", 7: "<f8", 11: "?"}

Fields = dict[str, Any]


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of an input or output; the first dimension is 0 where the batch is free, up to `largest_batch`,
    and the last where ids may be shorter."""

    dtype: str
    shape: tuple[int, ...]
    largest_batch: int = 1


@dataclass(frozen=True)
class Delegate:
    """One part of the graph that a backend runs: the backend's id and what it was compiled to."""

    backend: str
    payload: bytes


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
            Malformed, IndexError: see `read_program`.
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
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._tensor(value) for value in self.plan["inputs"])

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._tensor(value) for value in self.plan["outputs"])

    @cached_property
    def delegates(self) -> tuple[Delegate, ...]:
        """The parts that backends run, in the order in which the method lists them."""
        return tuple(Delegate(entry["id"], self.payload(entry)) for entry in self.plan["delegates"])

    @property
    def backends(self) -> tuple[str, ...]:
        """Ids of the backends that are needed to run it, each once."""
        return tuple(sorted({delegate.backend for delegate in self.delegates}))

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
        for delegate in self.delegates:
            kinds[delegate.backend] += len(delegate.payload)
        return {kind: count for kind, count in kinds.items() if count}

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """For the manifest: delegates by backend, operators outside of them, bytes by kind."""
        return {
            "delegates": dict(sorted(Counter(delegate.backend for delegate in self.delegates).items())),
            "operators_outside": dict(sorted(self.operators.items())),
            "bytes": self.bytes_by_kind,
        }

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

    def _tensor(self, value: int) -> TensorSpec:
        found = at(self.plan["values"], value, "value")["value"]
        if found is None or found[0] != "Tensor":
            raise Malformed("an input or output is not a tensor")
        tensor: Fields = found[1]
        sizes, code = tuple(tensor["sizes"]), tensor["scalar_type"]
        largest, shape = sizes[0] if sizes else 1, sizes
        if tensor["dynamism"] and sizes:  # the file has the largest sizes; a batch that is free is one of several
            shape = (0, *sizes[1:]) if largest > 1 else (*sizes[:-1], 0)
        return TensorSpec(np.dtype(DTYPES[code]).name if code in DTYPES else f"type {code}", shape, largest)


def read_program(path: Path) -> ProgramFile:
    """Read a .pte file.

    Raises:
        InvalidInput: it is missing, of another format, cut off or damaged.
    """
    return read_file(path, ".pte", ProgramFile.parse)
