"""The faults and the harmless edits of Core AI assets: each plants itself into an opened program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from faults.kinds import Edit

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.coreai.asset import Asset, operations

__all__ = ["FAULTS", "HARMLESS"]

Array = npt.NDArray[Any]
Change = Callable[[Array], Any]
Plant = Callable[[Asset], str | None]
IMAGE: tuple[TowerName, ...] = ("image",)
TEXT: tuple[TowerName, ...] = ("text",)
CONV, GELU, PAD, ADD = "coreai.conv2d", "coreai.gelu", "coreai.pad", "coreai.decomposable.broadcasting_add"
MUL, SUB = "coreai.decomposable.broadcasting_mul", "coreai.decomposable.broadcasting_sub"
LARGER, SMALLER = "coreai.decomposable.broadcasting_maximum", "coreai.decomposable.broadcasting_minimum"
MEAN, CALL = "coreai.reduce_mean", "coreai.invoke"
SCALED, LOOKED_UP = "coreai.blockwise_shift_scale", "coreai.lut_to_dense"


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


def edited(kind: str, place: int, change: Change, number: int = 0) -> Plant:
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


def scale_first(factor: float) -> Change:
    def change(values: Array) -> None:
        values[:1] *= values.dtype.type(factor)

    return change


def zero_first(values: Array) -> None:
    values[:1] = 0


def swap_first_two(values: Array) -> Array:
    rows = values.reshape(-1, values.shape[-1]) if values.shape[0] == 1 else values
    return rows[[1, 0, *range(2, len(rows))]].reshape(values.shape)


def flip(values: Array) -> Array:
    return -values


def change_one(values: Array) -> None:
    flat = values.reshape(-1)
    flat[int(np.abs(flat).argmax())] *= values.dtype.type(1.1)


def little_noise(values: Array) -> Array:
    noise = np.random.default_rng(0).normal(size=values.shape) * np.sqrt((values.astype(np.float64) ** 2).mean())
    return (values + noise * 4e-3).astype(values.dtype)


def add(amount: float) -> Change:
    return lambda values: values + values.dtype.type(amount)


def attribute(kind: str, name: str, value: str) -> Plant:
    """Another setting of the last operation of a kind."""

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


def residual_left_out(asset: Asset) -> None:
    """The last sum of two values that were computed is the first of them."""
    operation = next(one for one in found(asset, ADD)[::-1] if one.operands[1].owner.name != "coreai.constant")
    operation.results[0].replace_all_uses_with(operation.operands[0])
    operation.operation.erase()


def weights_exchanged(asset: Asset) -> None:
    """Two convolutions of one shape, each with the other's weight."""
    shapes: dict[str, Any] = {}
    for operation in found(asset, CONV):
        other = shapes.setdefault(str(operation.operands[1].type), operation)
        if other is not operation:
            mine, theirs = operation.operands[1], other.operands[1]
            late = operation.operands[1].owner
            if late.name != "coreai.constant":  # its scales and indices come along, from where both can see them
                late.operation.move_before(other)
                for value in late.operands:
                    value.owner.operation.move_before(late)
            else:
                late.operation.move_before(other)
            operation.operands[1], other.operands[1] = theirs, mine
            return
    raise AssertionError("no two convolutions of a shape")


def left_out(kind: str) -> Plant:
    """An operation whose users take what it took."""

    def plant(asset: Asset) -> None:
        operation = found(asset, kind)[-1]
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.operation.erase()

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


def behind_the_output(asset: Asset) -> str:
    """A relu between the last operation and the output."""
    from coreai._compiler.ir import InsertionPoint, Location, Operation

    output = list(operations(asset.function(None)))[-1]
    with asset.module.context, Location.unknown():
        value = output.operands[0]
        new = Operation.create("coreai.relu", results=[value.type], operands=[value], ip=InsertionPoint(output))
    output.operands[0] = new.results[0]
    return "relu"


def operands_exchanged(asset: Asset) -> None:
    """Another input of the same shape: an addition takes one of its two values twice."""
    operation = next(one for one in found(asset, ADD)[::-1] if one.operands[0].type == one.operands[1].type)
    operation.operands[1] = operation.operands[0]


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


def renamed_call(asset: Asset) -> None:
    """Another name of a called function."""
    from coreai._compiler.ir import Attribute, StringAttr

    private = next(name for name in asset.graphs if name not in asset.functions)
    with asset.module.context:
        for call in found(asset, "coreai.invoke"):
            told = str(call.attributes["callee"])
            call.attributes["callee"] = Attribute.parse(told.replace(f"@{private}", "@another_name"))
        asset.graphs[private].attributes["sym_name"] = StringAttr.get("another_name")


def unused(asset: Asset) -> None:
    """A constant that nothing takes."""
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


def off_centre(values: Array) -> None:
    """One less in front, one more behind."""
    values[-2] -= 1
    values[-1] += 1


FAULTS: tuple[Edit[Asset], ...] = (
    Edit("an output's weights scaled", weight(scale_first(1.02))),
    Edit("an output's weights zeroed", weight(zero_first)),
    Edit("two outputs exchanged", weight(swap_first_two)),
    Edit("the sign of a weight turned", weight(flip)),
    Edit("one number changed", weight(change_one)),
    Edit("a little noise on a weight", weight(little_noise)),
    Edit("a word's row scaled", rare_word, TEXT),
    Edit("an offset on a weight", edited(SCALED, 3, add(0.01)), precisions=("w4", "w4p")),
    Edit("a bias moved", edited(ADD, 1, add(0.01), -1), IMAGE),
    Edit("padding off the centre", edited(PAD, 1, off_centre)),
    Edit("padding with a half", edited(PAD, 2, add(0.5))),
    Edit("softmax over another axis", edited("coreai.softmax", 1, other_axis)),
    Edit("attention scaled otherwise", edited("coreai.decomposable.broadcasting_mul", 1, add(0.01)), IMAGE),
    Edit("another end-of-text token", edited("coreai.decomposable.broadcasting_equal", 1, add(-1)), TEXT),
    Edit("an activation left out", left_out(GELU)),
    Edit("another activation", exchanged(GELU, "coreai.relu")),
    Edit("an operation behind the output", behind_the_output),
    Edit("a value added to itself", operands_exchanged),
    Edit("a layer norm declared with another epsilon", declared, TEXT),
    Edit("the approximate GELU", attribute(GELU, "approximate", "#coreai.approximate<tanh>")),
    Edit("the sum instead of the mean", exchanged(MEAN, "coreai.reduce_sum")),
    Edit("the largest instead of the mean", exchanged(MEAN, "coreai.reduce_max")),
    Edit("ReLU instead of the logistic function", exchanged("coreai.sigmoid", "coreai.relu"), IMAGE),
    Edit("the logistic function instead of ReLU", exchanged("coreai.relu", "coreai.sigmoid"), IMAGE),
    Edit("a gate left out", left_out("coreai.sigmoid"), IMAGE),
    Edit("a ReLU left out", left_out("coreai.relu"), IMAGE),
    Edit("a root instead of its inverse", exchanged("coreai.rsqrt", "coreai.sqrt"), TEXT),
    Edit("a root left out", left_out("coreai.rsqrt"), TEXT),
    Edit("a difference instead of a sum", exchanged(ADD, SUB)),
    Edit("a sum instead of a factor", exchanged(MUL, ADD)),
    Edit("a sum instead of a difference", exchanged(SUB, ADD), TEXT),
    Edit("a bound on the other side", exchanged(SMALLER, LARGER), TEXT),
    Edit("another bound on the other side", exchanged(LARGER, SMALLER), TEXT),
    Edit("another bound", edited(SMALLER, 1, add(1)), TEXT),
    Edit("another epsilon", edited(ADD, 1, add(1e-3)), TEXT, ("fp32",)),
    Edit("a norm's weight scaled", edited(CALL, 1, scale_first(1.05)), TEXT),
    Edit("a norm's bias moved", edited(CALL, 2, add(0.01)), TEXT),
    Edit("a softmax left out", left_out("coreai.softmax")),
    Edit("keys and queries the other way round", called_with(1, 0, 2)),
    Edit("values for keys", called_with(0, 2, 2)),
    Edit("a residual left out", residual_left_out),
    Edit("weights of two layers exchanged", weights_exchanged),
    Edit("a kernel backwards", weight(lambda values: values[::-1])),
    Edit("a scale of another layer", edited(SCALED, 1, scale_first(1.05), -1), precisions=("w4", "w4p")),
    Edit("an entry of a table", edited(LOOKED_UP, 1, change_one, -1), TEXT, ("w4p",)),
    Edit("the input called otherwise", renamed_port("arg_attrs", "pixels")),
    Edit("the output called otherwise", renamed_port("res_attrs", "embedding")),
)
HARMLESS: tuple[Edit[Asset], ...] = (
    Edit("a called function by another name", renamed_call),
    Edit("a constant that nothing takes", unused),
    Edit("a constant written twice", copied_constant),
    Edit("a constant in another place", constants_first),
    Edit("functions in another order", functions_reordered),
)
