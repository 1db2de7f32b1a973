"""Edits of Core AI assets: of every field that the reader has to see, and of how the same is said in other words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from faults.edits import Edit

from mobileclip_deploy.targets.coreai.asset import Asset, is_readable, operations

Array = npt.NDArray[Any]
Change = Callable[[Array], Any]
Plant = Callable[[Asset], str | None]
FOUR, TABLES, WHOLE = ("image", "w4"), ("text", "w4p"), ("text", "fp32")
CONV, GELU, PAD, ADD = "coreai.conv2d", "coreai.gelu", "coreai.pad", "coreai.decomposable.broadcasting_add"
CALL, MEAN = "coreai.invoke", "coreai.reduce_mean"
SCALED, LOOKED_UP = "coreai.blockwise_shift_scale", "coreai.lut_to_dense"


def edited(file: Path, plant: Plant, path: Path) -> str | None:
    asset = Asset(file)
    named = plant(asset)
    save(asset, path)
    return named


def save(asset: Asset, path: Path) -> None:
    """Write a program as it is now, with a hash that fits."""
    asset.program.save_asset(path)
    is_readable(path)


def found(asset: Asset, *kinds: str) -> list[Any]:
    """Operations of all graphs, those of a function last."""
    return [one for graph in asset.graphs.values() for one in operations(graph) if one.name in kinds]


def constant(asset: Asset, numbers: Array, before: Any) -> Any:
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import InsertionPoint, Location

    with asset.module.context, Location.unknown():
        return coreai.constant(np.asarray(numbers, order="C"), ip=InsertionPoint(before))


def changed(asset: Asset, operation: Any, place: int, change: Change) -> None:
    """Other numbers in the place of a constant that an operation takes; its other users keep the old ones."""
    numbers = np.array(asset.numbers(operation.operands[place].owner))
    result = change(numbers)
    operation.operands[place] = constant(asset, numbers if result is None else result, operation)


def number(kind: str, place: int, change: Change, number: int = 0) -> Plant:
    """A constant of the first, or another, operation of a kind."""

    def plant(asset: Asset) -> None:
        changed(asset, found(asset, kind)[number], place, change)

    return plant


def weight(change: Change) -> Plant:
    """Changes a weight of a convolution in the middle: its numbers, its scales or its table, as it is stored."""

    def plant(asset: Asset) -> None:
        convolutions = found(asset, CONV)
        operation, place = convolutions[len(convolutions) // 2], 1
        owner = operation.operands[1].owner
        if owner.name in (SCALED, LOOKED_UP):
            operation, place = owner, 1
        changed(asset, operation, place, change)

    return plant


def turned(values: Array) -> Array:
    """The signs of four bits that have one."""
    return np.clip(-1 - values, -8, 7).astype(values.dtype)


def change_one(values: Array) -> None:
    flat = values.reshape(-1)
    flat[int(np.abs(flat).argmax())] *= values.dtype.type(1.1)


def add(amount: float) -> Change:
    return lambda values: values + values.dtype.type(amount)


def attribute(kind: str, name: str, value: str) -> Plant:
    def plant(asset: Asset) -> None:
        from coreai._compiler.ir import Attribute

        operation = found(asset, kind)[-1]
        with asset.module.context:
            operation.attributes[name] = Attribute.parse(value)

    return plant


def called_with(*places: int) -> Plant:
    """The first call, attention's, takes its inputs in another order: queries, keys and values have one shape."""

    def plant(asset: Asset) -> None:
        call = next(one for one in found(asset, CALL) if "sdpa" in str(one.attributes["callee"]))
        values = list(call.operands)
        for place, source in enumerate(places):
            call.operands[place] = values[source]

    return plant


def exchanged(kind: str, by: str) -> Plant:
    """Another operation of the same inputs."""

    def plant(asset: Asset) -> str:
        from coreai._compiler.ir import InsertionPoint, Location, Operation

        operation = found(asset, kind)[-1]
        with asset.module.context, Location.unknown():
            new = Operation.create(
                by,
                results=[one.type for one in operation.results],
                operands=list(operation.operands),
                ip=InsertionPoint(operation),
            )
        operation.results[0].replace_all_uses_with(new.results[0])
        operation.operation.erase()
        return by.removeprefix("coreai.")

    return plant


def declared(asset: Asset) -> None:
    """What a called function is declared to be, its body untouched: a device may compute what is declared."""
    from coreai._compiler.ir import Attribute

    graph = next(one for name, one in asset.graphs.items() if name.startswith("layer_norm"))
    text = str(graph.attributes["composite_decl"])
    assert "9.99999974E-6" in text
    with asset.module.context:
        graph.attributes["composite_decl"] = Attribute.parse(text.replace("9.99999974E-6", "1.000000e-03"))


def renamed_port(which: str, name: str) -> Plant:
    def plant(asset: Asset) -> str:
        from coreai._compiler.ir import Attribute

        with asset.module.context:
            asset.function(None).attributes[which] = Attribute.parse(f'[{{coreai.name = "{name}"}}]')
        return name

    return plant


def rare_word(asset: Asset) -> None:
    """The row of one word, in its numbers, its scales or its table."""
    operation, place = found(asset, "coreai.gather_nd")[0], 0
    owner = operation.operands[0].owner
    if owner.name in (SCALED, LOOKED_UP):
        operation, place = owner, 1

    def change(values: Array) -> None:
        values[-1] *= values.dtype.type(1.25)

    changed(asset, operation, place, change)


def other_axis(values: Array) -> Array:
    return np.array(2, values.dtype)


FAULTS: tuple[Edit[Asset], ...] = (
    Edit("one number of a weight, of its scales or table", weight(change_one), (FOUR, TABLES, WHOLE)),
    Edit("integers of a weight", number(SCALED, 0, turned), (FOUR,)),
    Edit("an entry of a table", number(LOOKED_UP, 1, change_one, -1), (TABLES,)),
    Edit("a word's row", rare_word, (TABLES, WHOLE)),
    Edit("an integer of an operation", number("coreai.softmax", 1, other_axis), (TABLES,)),
    Edit("a setting of an operation", attribute(GELU, "approximate", "#coreai.approximate<tanh>"), (FOUR, TABLES)),
    Edit("another operation", exchanged(MEAN, "coreai.reduce_sum"), (FOUR, TABLES)),
    Edit("inputs of a called function exchanged", called_with(1, 0, 2), (FOUR, TABLES)),
    Edit("a number of a called function", number(CALL, 1, change_one), (TABLES,)),
    Edit("what a called function is declared to be", declared, (TABLES, WHOLE)),
    Edit("the input called otherwise", renamed_port("arg_attrs", "pixels"), (FOUR, TABLES)),
    Edit("the output called otherwise", renamed_port("res_attrs", "embedding"), (FOUR, TABLES)),
)


# What says the same in other words


def renamed_call(asset: Asset) -> None:
    from coreai._compiler.ir import Attribute, StringAttr

    private = next(name for name in asset.graphs if name not in asset.functions)
    with asset.module.context:
        for call in found(asset, "coreai.invoke"):
            told = str(call.attributes["callee"])
            call.attributes["callee"] = Attribute.parse(told.replace(f"@{private}", "@another_name"))
        asset.graphs[private].attributes["sym_name"] = StringAttr.get("another_name")


def unused(asset: Asset) -> None:
    constant(asset, np.arange(5, dtype=np.float32), found(asset, CONV)[0])


def copied_constant(asset: Asset) -> None:
    """A constant of its own, with the same numbers, in the place of one that several take."""
    changed(asset, found(asset, PAD)[0], 1, lambda values: values)


def constants_first(asset: Asset) -> None:
    """The last constant of the function before all its operations."""
    body = list(operations(asset.function(None)))
    last = next(one for one in body[::-1] if one.name == "coreai.constant")
    last.operation.move_before(body[0].operation)


def functions_reordered(asset: Asset) -> None:
    """A called function behind the one that calls it."""
    private = next(graph for name, graph in asset.graphs.items() if name not in asset.functions)
    private.operation.move_after(asset.function(None).operation)


HARMLESS: tuple[Edit[Asset], ...] = (
    Edit("a called function by another name", renamed_call, (FOUR, TABLES)),
    Edit("a constant that nothing takes", unused, (FOUR, TABLES)),
    Edit("a constant written twice", copied_constant, (FOUR, TABLES)),
    Edit("a constant in another place", constants_first, (FOUR, TABLES)),
    Edit("functions in another order", functions_reordered, (FOUR, TABLES)),
)
