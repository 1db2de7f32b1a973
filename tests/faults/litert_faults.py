"""The faults and the harmless edits of LiteRT files: each plants itself into an opened file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from faults.kinds import Edit, renumbered, swap_neighbours

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.litert.editing import Editor

__all__ = ["FAULTS", "HARMLESS"]

Plant = Callable[[Editor], str | None]
IMAGE: tuple[TowerName, ...] = ("image",)
TEXT: tuple[TowerName, ...] = ("text",)
CONV, DEPTHWISE, PRODUCT = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"
MEASURED = "CONV_2D with measured ranges"


def found(editor: Editor, kind: str) -> list[Any]:
    """Operators of a kind, in their order."""
    if kind == MEASURED:
        grids = [editor.graph.tensors[one.inputs[0]].quantization for one in found(editor, CONV)]
        known = [grid_ is not None and grid_.scale is not None for grid_ in grids]
        return [one for one, measured in zip(found(editor, CONV), known, strict=True) if measured]
    codes, number = editor.model.operatorCodes, getattr(editor.schema.BuiltinOperator, kind)
    return [one for one in editor.graph.operators if codes[one.opcodeIndex].builtinCode == number]


def name_of(editor: Editor, operator: Any) -> str:
    return str(editor.graph.tensors[operator.outputs[0]].name.decode())


def setting(kind: str, name: str, value: Any, number: int = 0) -> Plant:
    """Another option of an operator."""

    def plant(editor: Editor) -> str:
        operator = found(editor, kind)[number]
        setattr(operator.builtinOptions, name, value)
        return name_of(editor, operator)

    return plant


def numbers(kind: str, place: int, change: Callable[[np.ndarray], None], dtype: str = "") -> Plant:
    """Other numbers in a constant that an operator takes; the last of its kind has one of its own."""

    def plant(editor: Editor) -> None:
        taken = found(editor, kind)[-1].inputs[place]
        halves = {one.outputs[0]: one.inputs[0] for one in found(editor, "DEQUANTIZE")}
        tensor, kinds = editor.graph.tensors[halves.get(taken, taken)], editor.schema.TensorType
        stored = dtype or {kinds.FLOAT32: "<f4", kinds.FLOAT16: "<f2"}.get(tensor.type, "i1")
        held = editor.model.buffers[tensor.buffer]
        held.data = np.frombuffer(renumbered(bytes(held.data), stored, change), np.uint8)

    return plant


def grid(kind: str, change: Callable[[Any], None], place: int = 1, number: int = -1) -> Plant:
    """Another scale or zero point of an operator's weight."""

    def plant(editor: Editor) -> None:
        found_ = editor.graph.tensors[found(editor, kind)[number].inputs[place]].quantization
        found_.scale, found_.zeroPoint = np.array(found_.scale), np.array(found_.zeroPoint)
        change(found_)

    return plant


def instead(kind: str, other: str, number: int = 0) -> Plant:
    """Another operator in the place of one."""

    def plant(editor: Editor) -> str:
        operator = found(editor, kind)[number]
        editor.model.operatorCodes.append(
            editor.schema.OperatorCodeT(version=1, builtinCode=getattr(editor.schema.BuiltinOperator, other))
        )
        operator.opcodeIndex = len(editor.model.operatorCodes) - 1
        operator.builtinOptionsType, operator.builtinOptions = 0, None
        return name_of(editor, operator)

    return plant


def toggled(kind: str, name: str) -> Plant:
    """A switch of an operator, the other way."""

    def plant(editor: Editor) -> str:
        operator = found(editor, kind)[-1]
        setattr(operator.builtinOptions, name, not getattr(operator.builtinOptions, name))
        return name_of(editor, operator)

    return plant


def one_more(values: np.ndarray) -> None:
    values.reshape(-1)[0] += 1


def backwards(values: np.ndarray) -> None:
    values[:] = values[::-1].copy()


def spoil_first(values: np.ndarray) -> None:
    """Bits of its highest byte: a number becomes another one by far, whatever it is."""
    values.view(np.uint8)[values.itemsize - 1] ^= 0x41


def times(factor: float) -> Callable[[Any], None]:
    def change(found_: Any) -> None:
        found_.scale[0] *= factor

    return change


def skip_residual(editor: Editor) -> str:
    operator = found(editor, "ADD")[-1]
    operator.inputs = [operator.inputs[0], operator.inputs[0]]
    return name_of(editor, operator)


def swap_operands(editor: Editor) -> None:
    """What is named is what computes them: in the order of need the other one comes first."""
    operator = found(editor, "BATCH_MATMUL")[0]
    operator.inputs = operator.inputs[::-1]


def swap_parts(editor: Editor) -> None:
    """Swaps the parts of a convolution that doubles the channels: the second of each channel comes first."""
    (joined, *_) = (one for one in found(editor, "CONCATENATION") if editor.graph.tensors[one.outputs[0]].shape[1] > 1)
    joined.inputs = joined.inputs[::-1]


def leave_out(editor: Editor) -> None:
    """What takes the last GELU's result takes what it was given."""
    left = found(editor, "GELU")[-1]
    for operator in editor.graph.operators:
        operator.inputs = [left.inputs[0] if place == left.outputs[0] else place for place in operator.inputs]


def swap_weights(editor: Editor) -> None:
    """Two convolutions of the same shape, each with the other's weight."""
    shapes: dict[tuple[int, ...], Any] = {}
    for operator in found(editor, CONV):
        other = shapes.setdefault(tuple(editor.graph.tensors[operator.inputs[1]].shape), operator)
        if other is not operator:
            operator.inputs[1], other.inputs[1] = other.inputs[1], operator.inputs[1]
            return
    raise AssertionError("no two convolutions of a shape")


def answer_earlier(editor: Editor) -> None:
    """The embedding as it is before its last operator."""
    last = editor.graph.operators[-1]
    editor.graph.outputs = [last.inputs[0]]
    editor.model.signatureDefs[0].outputs[0].tensorIndex = last.inputs[0]


def widen_result(editor: Editor) -> None:
    grid_ = editor.graph.tensors[found(editor, MEASURED)[-1].outputs[0]].quantization
    grid_.scale = np.array(grid_.scale) * np.float32(1.5)


def swap_ranges(editor: Editor) -> None:
    """The results of two convolutions, each rounded by the other's step."""
    first, second = (editor.graph.tensors[one.outputs[0]].quantization for one in found(editor, MEASURED)[-2:])
    first.scale, second.scale = second.scale, first.scale


def rename_input(editor: Editor) -> None:
    editor.model.signatureDefs[0].inputs[0].name = b"source"


def reorder_codes(editor: Editor) -> None:
    """The list of kinds of operators the other way round."""
    editor.model.operatorCodes = editor.model.operatorCodes[::-1]
    for operator in editor.graph.operators:
        operator.opcodeIndex = len(editor.model.operatorCodes) - 1 - operator.opcodeIndex


def rename_port(editor: Editor) -> None:
    editor.model.signatureDefs[0].outputs[0].name = b"result"


def rename_tensors(editor: Editor) -> None:
    for place, tensor in enumerate(editor.graph.tensors):
        tensor.name = f"t{place}".encode()


def reorder_buffers(editor: Editor) -> None:
    """The last constant's buffer before all others."""
    buffers = editor.model.buffers
    order = [0, len(buffers) - 1, *range(1, len(buffers) - 1)]
    editor.model.buffers = [buffers[place] for place in order]
    for holder in (*editor.graph.tensors, *editor.model.metadata):
        holder.buffer = order.index(holder.buffer)


def add_unused(editor: Editor) -> None:
    editor.constant(b"nobody takes it", np.ones(3, np.float32))


def describe_otherwise(editor: Editor) -> None:
    editor.model.description, editor.graph.name = b"other words", b"body"


FAULTS = [
    Edit("the approximate GELU", setting("GELU", "approximate", True)),
    Edit("another activation behind a convolution", setting(CONV, "fusedActivationFunction", 1)),
    Edit("another stride", setting(CONV, "strideW", 3)),
    Edit("another dilation of a band", setting(DEPTHWISE, "dilationHFactor", 2, number=-1)),
    Edit("another padding", setting(DEPTHWISE, "padding", 1, number=-1)),
    Edit("a softmax that is flatter", setting("SOFTMAX", "beta", 0.5)),
    Edit("ReLU instead of GELU", instead("GELU", "RELU")),
    Edit("subtraction of a residual", instead("ADD", "SUB", number=-1)),
    Edit("a residual left out", skip_residual),
    Edit("keys and queries the other way round", swap_operands),
    Edit("one number of a weight", numbers(PRODUCT, 1, spoil_first)),
    Edit("neighbours of a weight swapped", numbers(PRODUCT, 1, swap_neighbours)),
    Edit("one number of a bias", numbers(CONV, 2, spoil_first)),
    Edit("a row of words that no prompt holds", numbers("EMBEDDING_LOOKUP", 1, spoil_first), TEXT),
    Edit("pooling at another token", numbers("EQUAL", 1, spoil_first, "<i4"), TEXT),
    Edit("another place to slice", numbers("SLICE", 1, spoil_first, "<i4")),
    Edit("a scale of a channel", grid(MEASURED, times(1.01)), IMAGE, ("w8a8",)),
    Edit("a zero point", grid(MEASURED, lambda one: one.zeroPoint.__setitem__(0, 1)), IMAGE, ("w8a8",)),
    Edit("a range of activations", grid(MEASURED, times(1.5), place=0), IMAGE, ("w8a8",)),
    Edit("another name of the output", rename_port),
    Edit("another name of the input", rename_input, TEXT),
    Edit("another dilation of a convolution", setting(CONV, "dilationWFactor", 2), IMAGE),
    Edit("another stride of a band", setting(DEPTHWISE, "strideH", 2, number=-1), IMAGE),
    Edit("another depth multiplier", setting(DEPTHWISE, "depthMultiplier", 3), IMAGE),
    Edit("an activation behind a residual", setting("ADD", "fusedActivationFunction", 1, number=-1), TEXT),
    Edit("an activation behind a factor", setting("MUL", "fusedActivationFunction", 1), IMAGE),
    Edit("an activation behind a product", setting(PRODUCT, "fusedActivationFunction", 3), TEXT),
    Edit("inputs of a product rounded with a zero point", setting(PRODUCT, "asymmetricQuantizeInputs", True), TEXT),
    Edit("the channels of a convolution in another turn", swap_parts, IMAGE),
    Edit("a factor turned", toggled("BATCH_MATMUL", "adjY"), TEXT),
    Edit("a mean that keeps its dimensions", toggled("MEAN", "keepDims"), TEXT),
    Edit("a mean over another axis", numbers("MEAN", 1, one_more, "<i4"), IMAGE),
    Edit("axes the other way round", numbers("TRANSPOSE", 1, backwards, "<i4"), IMAGE),
    Edit("another shape", numbers("RESHAPE", 1, one_more, "<i4"), TEXT),
    Edit("a longer slice", numbers("SLICE", 2, one_more, "<i4"), TEXT),
    Edit("more padding", numbers("PAD", 1, one_more, "<i4"), IMAGE),
    Edit("the sum instead of the mean", instead("MEAN", "SUM", number=-1), TEXT),
    Edit("the largest instead of the mean", instead("MEAN", "REDUCE_MAX"), IMAGE),
    Edit("no sum to one", instead("SOFTMAX", "LOGISTIC"), TEXT),
    Edit("ReLU instead of the logistic function", instead("LOGISTIC", "RELU"), IMAGE),
    Edit("a root instead of its inverse", instead("RSQRT", "SQRT"), TEXT),
    Edit("a difference that is not squared", instead("SQUARED_DIFFERENCE", "SUB"), TEXT),
    Edit("a bound on the other side", instead("MINIMUM", "MAXIMUM"), TEXT),
    Edit("another bound", numbers("MINIMUM", 1, one_more), TEXT),
    Edit("a GELU left out", leave_out, IMAGE),
    Edit("weights of two layers swapped", swap_weights, IMAGE),
    Edit("the embedding before its last operator", answer_earlier, IMAGE),
    Edit("one tap of a kernel", numbers(DEPTHWISE, 1, spoil_first), IMAGE),
    Edit("a kernel backwards", numbers(DEPTHWISE, 1, backwards), TEXT),
    Edit("neighbours of a bias swapped", numbers(CONV, 2, swap_neighbours), TEXT),
    Edit("one number of a norm's weight", numbers("MUL", 1, spoil_first), TEXT),
    Edit("a number of the norm's bias", numbers("ADD", 1, spoil_first), TEXT),
    Edit("a scale of a product's weight", grid(PRODUCT, times(1.01)), IMAGE, ("w8a8",)),
    Edit("a scale of a bias", grid(MEASURED, times(2), place=2), IMAGE, ("w8a8",)),
    Edit(
        "a zero point of activations",
        grid(MEASURED, lambda one: one.zeroPoint.__setitem__(0, 1), place=0),
        IMAGE,
        ("w8a8",),
    ),
    Edit("a range of results", widen_result, IMAGE, ("w8a8",)),
    Edit("ranges of two results swapped", swap_ranges, IMAGE, ("w8a8",)),
]
HARMLESS = [
    Edit("other names of tensors", rename_tensors),
    Edit("buffers in another order", reorder_buffers),
    Edit("a constant that nothing takes", add_unused),
    Edit("another description", describe_otherwise),
    Edit("kinds of operators in another order", reorder_codes),
]
