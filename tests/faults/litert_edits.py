"""Edits of LiteRT files: of every field that the reader has to see, and of how the same is said in other words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faults.edits import Edit, renumbered

from mobileclip_deploy.targets.litert.editing import LiteRTEditor

Plant = Callable[[LiteRTEditor], str | None]
EIGHT, FOUR = ("image", "w8a8"), ("text", "w4")
CONV, DEPTHWISE, PRODUCT = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"
MEASURED = "CONV_2D with measured ranges"


def edited(file: Path, plant: Plant, path: Path) -> str | None:
    editor = LiteRTEditor(file.read_bytes())
    named = plant(editor)
    path.write_bytes(editor.packed())
    return named


def found(editor: LiteRTEditor, kind: str) -> list[Any]:
    """Operators of a kind, in their order."""
    if kind == MEASURED:
        grids = [editor.graph.tensors[one.inputs[0]].quantization for one in found(editor, CONV)]
        known = [grid_ is not None and grid_.scale is not None for grid_ in grids]
        return [one for one, measured in zip(found(editor, CONV), known, strict=True) if measured]
    codes, number = editor.model.operatorCodes, getattr(editor.schema.BuiltinOperator, kind)
    return [one for one in editor.graph.operators if codes[one.opcodeIndex].builtinCode == number]


def name_of(editor: LiteRTEditor, operator: Any) -> str:
    return str(editor.graph.tensors[operator.outputs[0]].name.decode())


def setting(kind: str, name: str, value: Any, number: int = 0) -> Plant:
    """Another option of an operator."""

    def plant(editor: LiteRTEditor) -> str:
        operator = found(editor, kind)[number]
        setattr(operator.builtinOptions, name, value)
        return name_of(editor, operator)

    return plant


def numbers(kind: str, place: int, change: Callable[[np.ndarray], None], dtype: str = "") -> Plant:
    """Other numbers in a constant that an operator takes; the last of its kind has one of its own."""

    def plant(editor: LiteRTEditor) -> None:
        taken = found(editor, kind)[-1].inputs[place]
        halves = {one.outputs[0]: one.inputs[0] for one in found(editor, "DEQUANTIZE")}
        tensor, kinds = editor.graph.tensors[halves.get(taken, taken)], editor.schema.TensorType
        stored = dtype or {kinds.FLOAT32: "<f4", kinds.FLOAT16: "<f2"}.get(tensor.type, "i1")
        held = editor.model.buffers[tensor.buffer]
        held.data = np.frombuffer(renumbered(bytes(held.data), stored, change), np.uint8)

    return plant


def grid(kind: str, change: Callable[[Any], None], place: int = 1, number: int = -1) -> Plant:
    """Another scale or zero point of an operator's weight."""

    def plant(editor: LiteRTEditor) -> None:
        found_ = editor.graph.tensors[found(editor, kind)[number].inputs[place]].quantization
        found_.scale, found_.zeroPoint = np.array(found_.scale), np.array(found_.zeroPoint)
        change(found_)

    return plant


def instead(kind: str, other: str, number: int = 0) -> Plant:
    """Another operator in the place of one."""

    def plant(editor: LiteRTEditor) -> str:
        operator = found(editor, kind)[number]
        editor.model.operatorCodes.append(
            editor.schema.OperatorCodeT(version=1, builtinCode=getattr(editor.schema.BuiltinOperator, other))
        )
        operator.opcodeIndex = len(editor.model.operatorCodes) - 1
        operator.builtinOptionsType, operator.builtinOptions = 0, None
        return name_of(editor, operator)

    return plant


def spoil_first(values: np.ndarray) -> None:
    """Bits of its highest byte: a number becomes another one by far, whatever it is."""
    values.view(np.uint8)[values.itemsize - 1] ^= 0x41


def times(factor: float) -> Callable[[Any], None]:
    def change(found_: Any) -> None:
        found_.scale[0] *= factor

    return change


def skip_residual(editor: LiteRTEditor) -> str:
    operator = found(editor, "ADD")[-1]
    operator.inputs = [operator.inputs[0], operator.inputs[0]]
    return name_of(editor, operator)


def answer_earlier(editor: LiteRTEditor) -> None:
    """The embedding as it is before its last operator."""
    last = editor.graph.operators[-1]
    editor.graph.outputs = [last.inputs[0]]
    editor.model.signatureDefs[0].outputs[0].tensorIndex = last.inputs[0]


def rename_input(editor: LiteRTEditor) -> None:
    editor.model.signatureDefs[0].inputs[0].name = b"source"


def reorder_codes(editor: LiteRTEditor) -> None:
    """The list of kinds of operators the other way round."""
    editor.model.operatorCodes = editor.model.operatorCodes[::-1]
    for operator in editor.graph.operators:
        operator.opcodeIndex = len(editor.model.operatorCodes) - 1 - operator.opcodeIndex


def rename_port(editor: LiteRTEditor) -> None:
    editor.model.signatureDefs[0].outputs[0].name = b"result"


def rename_tensors(editor: LiteRTEditor) -> None:
    for place, tensor in enumerate(editor.graph.tensors):
        tensor.name = f"t{place}".encode()


def reorder_buffers(editor: LiteRTEditor) -> None:
    """The last constant's buffer before all others."""
    buffers = editor.model.buffers
    order = [0, len(buffers) - 1, *range(1, len(buffers) - 1)]
    editor.model.buffers = [buffers[place] for place in order]
    for holder in (*editor.graph.tensors, *editor.model.metadata):
        holder.buffer = order.index(holder.buffer)


def add_unused(editor: LiteRTEditor) -> None:
    editor.constant(b"nobody takes it", np.ones(3, np.float32))


def describe_otherwise(editor: LiteRTEditor) -> None:
    editor.model.description, editor.graph.name = b"other words", b"body"


def moved(one: Any) -> None:
    one.zeroPoint[0] += 1


FAULTS: tuple[Edit[LiteRTEditor], ...] = (
    Edit("one number of a weight", numbers(PRODUCT, 1, spoil_first), (EIGHT, FOUR)),
    Edit("a scale of a weight", grid(MEASURED, times(1.01)), (EIGHT,)),
    Edit("a zero point of a weight", grid(MEASURED, moved), (EIGHT,)),
    Edit("one number of a bias", numbers(CONV, 2, spoil_first), (EIGHT, FOUR)),
    Edit("a step of activations", grid(MEASURED, times(1.5), place=0), (EIGHT,)),
    Edit("a row of words", numbers("EMBEDDING_LOOKUP", 1, spoil_first), (FOUR,)),
    Edit("an integer", numbers("EQUAL", 1, spoil_first, "<i4"), (FOUR,)),
    Edit("a switch of an operator", setting("GELU", "approximate", True), (EIGHT, FOUR)),
    Edit("a number of an operator", setting("SOFTMAX", "beta", 0.5), (EIGHT, FOUR)),
    Edit("the type of an operator", instead("GELU", "RELU"), (EIGHT, FOUR)),
    Edit("an input of an operator", skip_residual, (EIGHT, FOUR)),
    Edit("another tensor as the output", answer_earlier, (EIGHT,)),
    Edit("another name of the input", rename_input, (FOUR,)),
    Edit("another name of the output", rename_port, (EIGHT, FOUR)),
)
HARMLESS: tuple[Edit[LiteRTEditor], ...] = (
    Edit("other names of tensors", rename_tensors, (EIGHT, FOUR)),
    Edit("buffers in another order", reorder_buffers, (EIGHT, FOUR)),
    Edit("a constant that nothing takes", add_unused, (EIGHT, FOUR)),
    Edit("another description", describe_otherwise, (EIGHT, FOUR)),
    Edit("kinds of operators in another order", reorder_codes, (EIGHT, FOUR)),
)
