"""Edits of a Core ML package that change no number and no operation: what says the same in other words."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from faults.planting import Planted

__all__ = ["EDITS"]

_RECORD = struct.Struct("<IIQQQ32x")
_ALIGNED = 64


def everything_renamed(p: Planted) -> None:
    """Every operation and value but the ports."""
    names = {port.name for port in p.function.inputs} | set(p.block.outputs)
    other = {
        out.name: f"renamed_{number}_{index}"
        for number, operation in enumerate(p.block.operations)
        for index, out in enumerate(operation.outputs)
        if out.name not in names
    }
    for number, operation in enumerate(p.block.operations):
        operation.attributes["name"].immediateValue.tensor.strings.values[0] = f"operation_{number}"
        for out in operation.outputs:
            out.name = other.get(out.name, out.name)
        for bound in operation.inputs.values():
            for argument in bound.arguments:
                if argument.WhichOneof("binding") == "name":
                    argument.name = other.get(argument.name, argument.name)


def constants_first(p: Planted) -> None:
    """All constants in front, the last of them first."""
    constants = [op for op in p.block.operations if op.type == "const"]
    _reordered(p, [*reversed(constants), *(op for op in p.block.operations if op.type != "const")])


def operations_late(p: Planted) -> None:
    """Each operation as late as it can be: of two that need nothing of each other the second comes first."""
    operations = list(p.block.operations)
    producers = {out.name: number for number, operation in enumerate(operations) for out in operation.outputs}
    needs = [{producers[name] for name in _taken(operation) if name in producers} for operation in operations]
    users = [sum(number in taken for taken in needs) for number in range(len(operations))]
    order: list[Any] = []
    free = [number for number, count in enumerate(users) if not count]
    while free:  # from the end, the first of those that nothing left needs
        last = min(free)
        free.remove(last)
        order.append(operations[last])
        for number in needs[last]:
            users[number] -= 1
            if not users[number]:
                free.append(number)
    _reordered(p, order[::-1])


def _taken(operation: Any) -> Iterator[str]:
    return (argument.name for bound in operation.inputs.values() for argument in bound.arguments)


def _reordered(p: Planted, operations: list[Any]) -> None:
    copies = [type(operation).FromString(operation.SerializeToString()) for operation in operations]
    del p.block.operations[:]
    p.block.operations.extend(copies)


def numbers_moved(p: Planted) -> None:
    """The weight file with its values in another order, one of them padded, and bytes at the end that nobody reads."""
    values = [value for operation in p.block.operations for value in operation.attributes.values()]
    values += [
        argument.value
        for operation in p.block.operations
        for bound in operation.inputs.values()
        for argument in bound.arguments
        if argument.WhichOneof("binding") == "value"
    ]
    stored = [value.blobFileValue for value in values if value.WhichOneof("value") == "blobFileValue"]
    old, fresh, places = bytes(p.weights), bytearray(p.weights[:_ALIGNED]), {}
    for offset in sorted({blob.offset for blob in stored}, reverse=True):
        sentinel, code, size, start, padding = _RECORD.unpack_from(old, offset)
        places[offset] = len(fresh)
        data = old[start : start + size]
        fresh += _RECORD.pack(sentinel, code, size, len(fresh) + 2 * _ALIGNED, padding) + bytes(_ALIGNED)
        fresh += data + bytes(-len(data) % _ALIGNED)
    for blob in stored:
        blob.offset = places[blob.offset]
    p.weights = fresh + b"nobody reads this".ljust(_ALIGNED, b"\0")


def documented(p: Planted) -> None:
    p.spec.description.metadata.shortDescription = "something else"
    p.spec.description.metadata.userDefined["who"] = "someone"
    p.spec.description.input[0].shortDescription = "an input"
    p.spec.mlProgram.docString = "a program"


def constant_unused(p: Planted) -> None:
    p.constant(np.float32([1.5]), p.block.operations[0])


def manifest_rewritten(p: Planted) -> None:
    file = p.package / "Manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1, sort_keys=True) + "\n")


EDITS: dict[str, Callable[[Planted], None]] = {
    "every operation and value renamed": everything_renamed,
    "constants in another order": constants_first,
    "operations in another valid order": operations_late,
    "the weight file in another order": numbers_moved,
    "documentation and metadata": documented,
    "an unused constant": constant_unused,
    "the manifest re-serialised": manifest_rewritten,
}
