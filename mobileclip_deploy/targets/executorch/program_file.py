"""What a .pte file holds, read from its bytes alone: inputs, outputs, delegates, operators left outside, bytes by kind.

After `schema/program.fbs` of ExecuTorch 1.5 (file identifier ET12): a flatbuffer, an extended header with magic `eh00`
in it, and data segments behind it. Nothing of executorch is imported, so files can be inspected without it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.flatbuffer import Malformed, Table, read, root

__all__ = ["Delegate", "ProgramFile", "TensorSpec", "read_program"]

IDENTIFIER = b"ET12"
HEADER_MAGIC = b"eh00"
SCALAR_TYPES = {1: "int8", 3: "int32", 4: "int64", 5: "float16", 6: "float32"}
TENSOR, KERNEL_CALL = 5, 1  # members of the unions KernelTypes and InstructionArguments
INLINE = 0


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
    """One method, `forward`, of a .pte file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delegates: tuple[Delegate, ...]
    operators: dict[str, int]
    bytes_by_kind: dict[str, int]

    @property
    def backends(self) -> tuple[str, ...]:
        """Ids of the backends that are needed to run it, each once."""
        return tuple(sorted({delegate.backend for delegate in self.delegates}))

    def contents(self) -> dict[str, dict[str, int]]:
        """For the manifest: delegates by backend, operators outside of them, bytes by kind."""
        delegates = Counter(delegate.backend for delegate in self.delegates)
        return {
            "delegates": dict(sorted(delegates.items())),
            "operators_outside": dict(sorted(self.operators.items())),
            "bytes": self.bytes_by_kind,
        }


def read_program(path: Path) -> ProgramFile:
    """Read a .pte file.

    Raises:
        InvalidInput: it is missing, of another format, cut off or damaged.
    """
    try:
        data = path.read_bytes()
        return _parse(data)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except (Malformed, IndexError) as error:
        raise InvalidInput(f"{path} is not a usable .pte file: {error}") from error


def _parse(data: bytes) -> ProgramFile:
    program = root(data, IDENTIFIER)
    base, size = 0, len(data)
    if data[8:12] == HEADER_MAGIC:
        size, base = read(data, "<Q", 16), read(data, "<Q", 24)
    segments = [(base + s.integer(0, "<Q"), s.integer(1, "<Q")) for s in program.tables(4)]
    if size > len(data) or any(start + length > len(data) for start, length in segments):
        raise Malformed(f"it is cut off: {len(data)} bytes, and parts of it would lie behind them")
    methods = {plan.text(0): plan for plan in program.tables(1)}
    if "forward" not in methods:
        raise Malformed(f"it has no method forward, only {', '.join(methods) or 'none'}")
    plan = methods["forward"]
    delegates = tuple(_delegate(entry, program, data, segments) for entry in plan.tables(7))
    named = {entry.integer(1, "<I") for entry in program.tables(7)}
    constants = program.table(5)
    kinds = {
        "program": size,
        "constants": segments[constants.integer(0, "<I")][1] if constants and constants.integers(1, "<Q") else 0,
        "shared_weights": sum(segments[index][1] for index in named if index < len(segments)),
    }
    for delegate in delegates:
        kinds[delegate.backend] = kinds.get(delegate.backend, 0) + len(delegate.payload)
    return ProgramFile(
        inputs=_tensors(plan, 3),
        outputs=_tensors(plan, 4),
        delegates=delegates,
        operators=_operators(plan),
        bytes_by_kind={kind: count for kind, count in kinds.items() if count},
    )


def _delegate(entry: Table, program: Table, data: bytes, segments: list[tuple[int, int]]) -> Delegate:
    reference = entry.table(1)
    if reference is None:
        raise Malformed(f"a part compiled for {entry.text(0)} is missing")
    index = reference.integer(1, "<I")
    inline = program.tables(3)
    if reference.integer(0, "<b") == INLINE:
        if index >= len(inline):
            raise Malformed(f"a part compiled for {entry.text(0)} is missing")
        return Delegate(entry.text(0), inline[index].blob(0))
    if index >= len(segments):
        raise Malformed(f"a part compiled for {entry.text(0)} is missing")
    start, length = segments[index]
    return Delegate(entry.text(0), data[start : start + length])


def _tensors(plan: Table, field: int) -> tuple[TensorSpec, ...]:
    values, specs = plan.tables(2), []
    for index in plan.integers(field, "<i"):
        if not 0 <= index < len(values):
            raise Malformed(f"value {index} of {len(values)} is named as an input or output")
        tensor = values[index].table(1)
        if values[index].integer(0, "<B") != TENSOR or tensor is None:
            raise Malformed("an input or output is not a tensor")
        sizes = tensor.integers(2, "<i")
        dynamic = tensor.integer(8, "<b") != 0
        code = tensor.integer(0, "<b")
        largest = sizes[0] if sizes else 1
        shape = sizes
        if dynamic and sizes:  # the file has the largest sizes; a batch that is free is one of several
            shape = (0, *sizes[1:]) if largest > 1 else (*sizes[:-1], 0)
        specs.append(TensorSpec(SCALAR_TYPES.get(code, f"type {code}"), shape, largest))
    return tuple(specs)


def _operators(plan: Table) -> dict[str, int]:
    names = [(operator.text(0), operator.text(1)) for operator in plan.tables(6)]
    counts: Counter[str] = Counter()
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            call = instruction.table(1)
            if instruction.integer(0, "<B") != KERNEL_CALL or call is None:
                continue
            index = call.integer(0, "<i")
            if not 0 <= index < len(names):
                raise Malformed(f"operator {index} of {len(names)} is called")
            name, overload = names[index]
            counts[f"{name}.{overload}" if overload else name] += 1
    return dict(counts)
