"""The faults and the harmless edits of LiteRT files: each plants itself into an opened file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from faults.kinds import Edit

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.litert.editing import Editor

__all__ = ["FAULTS", "HARMLESS"]

Plant = Callable[[Editor], str | None]
IMAGE: tuple[TowerName, ...] = ("image",)
TEXT: tuple[TowerName, ...] = ("text",)
CONV, DEPTHWISE, PRODUCT = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"


def found(editor: Editor, kind: str) -> list[Any]:
    """Operators of a kind, in their order."""
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
        tensor = editor.graph.tensors[found(editor, kind)[-1].inputs[place]]
        stored = dtype or ("<f4" if tensor.type == editor.schema.TensorType.FLOAT32 else "i1")
        values = np.frombuffer(bytes(editor.model.buffers[tensor.buffer].data), stored).copy()
        change(values)
        editor.model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

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


def spoil_first(values: np.ndarray) -> None:
    """Bits of its highest byte: a number becomes another one by far, whatever it is."""
    values.view(np.uint8)[values.itemsize - 1] ^= 0x41


def swap_rows(values: np.ndarray) -> None:
    rows = values.reshape(-1, 2)
    rows[:] = rows[:, ::-1].copy()


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
    Edit("neighbours of a weight swapped", numbers(PRODUCT, 1, swap_rows)),
    Edit("one number of a bias", numbers(CONV, 2, spoil_first)),
    Edit("a row of words that no prompt holds", numbers("EMBEDDING_LOOKUP", 1, spoil_first), TEXT),
    Edit("pooling at another token", numbers("EQUAL", 1, spoil_first, "<i4"), TEXT),
    Edit("another place to slice", numbers("SLICE", 1, spoil_first, "<i4")),
    Edit("a scale of a channel", grid(CONV, times(1.01)), IMAGE, ("w8", "w8a8")),
    Edit("a zero point", grid(CONV, lambda one: one.zeroPoint.__setitem__(0, 1)), IMAGE, ("w8", "w8a8")),
    Edit("a range of activations", grid(CONV, times(1.5), place=0), IMAGE, ("w8a8",)),
    Edit("another name of the output", rename_port),
]
HARMLESS = [
    Edit("other names of tensors", rename_tensors),
    Edit("buffers in another order", reorder_buffers),
    Edit("a constant that nothing takes", add_unused),
    Edit("another description", describe_otherwise),
]
