"""Edits of a Core ML package: of every field that its reader has to see, and of how the same is said in other words."""

import copy
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults.edits import Edit
from faults.planting import Planted

from mobileclip_deploy.network.model.variants import TowerName

Plant = Callable[[Planted], str | None]
File = tuple[TowerName, str]
# What a package stores weights as is decided by precision and deployment target.
HALF: File = ("text", "fp16-iOS16")
AFFINE: File = ("image", "w8a8-iOS17")
TABLE: File = ("text", "w4p-iOS16")
TABLES: File = ("text", "w4p-iOS18")
BLOCKS: File = ("text", "w4-iOS18")
SPARSE: File = ("text", "w4p-p50-iOS18")


def edited(file: Path, plant: Plant, path: Path) -> str | None:
    package = Planted(file, path)
    named = plant(package)
    package.save()
    return named


def bias_dropped(p: Planted) -> str:
    operation = p.find("conv")
    del operation.inputs["bias"]
    return p.name(operation)


def bytes_unscaled(p: Planted) -> str:
    operation = p.find("mul")
    p.set(operation, "y", 1.0)
    return p.name(operation)


def gelu_by_tanh(p: Planted) -> str:
    names = [p.name(op) for op in p.block.operations if op.type == "gelu"]
    for name in names:
        p.set(p.named(name), "mode", "TANH_APPROXIMATION")
    return names[0]


def output_renamed(p: Planted) -> None:
    name = p.spec.description.output[0].name
    p.spec.description.output[0].name = "embedding"
    p.producer(name).outputs[0].name = "embedding"
    p.block.outputs[0] = "embedding"


def epsilon(p: Planted) -> str:
    names = [p.name(op) for op in p.block.operations if op.type == "layer_norm"]
    for name in names:
        p.set(p.named(name), "epsilon", 1e-3)
    return names[0]


def gain_and_shift_swapped(p: Planted) -> str:
    operation = p.find("layer_norm")
    gamma, beta = p.source(operation, "gamma"), p.source(operation, "beta")
    p.bind(operation, "gamma", beta)
    p.bind(operation, "beta", gamma)
    return p.name(operation)


def range_widened(p: Planted) -> str:
    operation = p.find("quantize", 3)
    p.set(operation, "scale", 2 * p.number(operation, "scale"))
    return p.name(operation)


def range_moved(p: Planted) -> str:
    operation = p.find("quantize", 3)
    p.set(operation, "zero_point", p.number(operation, "zero_point") - 5)
    return p.name(operation)


def range_halved(p: Planted) -> str:
    """On both sides: what is rounded by a step is restored by it."""
    operation = p.find("quantize", 3)
    for one in (operation, next(other for other in p.all("dequantize") if p.takes(other, operation.outputs[0].name))):
        p.set(one, "scale", p.number(one, "scale") / 2)
    return p.name(operation)


def another_function(p: Planted) -> None:
    p.spec.mlProgram.functions["other"].CopyFrom(p.spec.mlProgram.functions["main"])


def updatable(p: Planted) -> None:
    p.spec.isUpdatable = True


def part(name: str, kind: str = "") -> Plant:
    """A number of a weight, as it is stored, or of what restores it."""

    def plant(p: Planted) -> str:
        operation, value = next(p.stored(name, kind))
        p.spoil(value)
        return p.name(operation)

    return plant


def mask(p: Planted) -> None:
    """Where a weight is not zero: there are other numbers than places then, and what cannot be read has no name."""
    _, value = next(p.stored("indices_mask"))
    p.spoil(value)


FAULTS: tuple[Edit[Planted], ...] = (
    Edit("a number of a weight", part("val"), (HALF, ("image", "fp32-iOS16"))),
    Edit("an integer of a weight", part("quantized_data"), (AFFINE,)),
    Edit("an integer of a weight in blocks", part("data"), (BLOCKS,)),
    Edit("a scale of a weight", part("scale"), (AFFINE, BLOCKS)),
    Edit("a zero point of a weight", part("zero_point"), (AFFINE,)),
    Edit("an entry of a table", part("lut"), (TABLE, TABLES, SPARSE)),
    Edit("an index of a table", part("indices"), (TABLE, TABLES)),
    Edit("an index of what is not zero", part("indices_nonzero_data"), (SPARSE,)),
    Edit("what is not zero", mask, (SPARSE,)),
    Edit("a row of words", part("val", "gather"), (HALF,)),
    Edit("a step of activations", range_widened, (AFFINE,)),
    Edit("a zero point of activations", range_moved, (AFFINE,)),
    Edit("a step of activations, on both sides", range_halved, (AFFINE,)),
    Edit("a number", epsilon, (HALF, BLOCKS)),
    Edit("a text", gelu_by_tanh, (HALF, AFFINE)),
    Edit("an input that is left out", bias_dropped, (HALF, AFFINE)),
    Edit("two inputs exchanged", gain_and_shift_swapped, (HALF,)),
    Edit("the output renamed", output_renamed, (AFFINE,)),
    Edit("a function beside it", another_function, (AFFINE,)),
    Edit("an updatable model", updatable, (AFFINE,)),
)


# What says the same in other words


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


def constant_unused(p: Planted) -> None:
    spare = copy.deepcopy(next(operation for operation in p.block.operations if operation.type == "const"))
    spare.outputs[0].name = spare.attributes["name"].immediateValue.tensor.strings.values[0] = "spare"
    p.block.operations.insert(0, spare)


ANYWHERE: tuple[File, ...] = (HALF, AFFINE, TABLE, TABLES, BLOCKS, SPARSE)
HARMLESS: tuple[Edit[Planted], ...] = (
    Edit("every operation and value renamed", everything_renamed, ANYWHERE),
    Edit("constants in another order", constants_first, ANYWHERE),
    Edit("operations in another valid order", operations_late, ANYWHERE),
    Edit("the weight file in another order", numbers_moved, ANYWHERE),
    Edit("an unused constant", constant_unused, ANYWHERE),
)
