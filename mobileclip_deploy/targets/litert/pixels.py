"""An image input as a bitmap has it: the bytes of its pixels one after the other, in the place of floats by channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import StoredTensor

CHANNELS_LAST = [0, 2, 3, 1]


def take_bytes(editor: Editor) -> None:
    """Have an image tower take uint8 [1, S, S, 3], 0 to 255. Inside of the file channels come last anyway: the operator
    that turned floats goes, and bytes become floats as preprocessing makes them, divided by 255.

    Raises:
        ExportError: the converter put something else than that operator behind the input.
    """
    graph, schema = editor.graph, editor.schema
    (source,) = graph.inputs
    taking = [one for one in graph.operators if source in one.inputs]
    if len(taking) != 1 or not editor.is_type(taking[0], "TRANSPOSE"):
        raise ExportError("the converter does not turn the image first; export it without `nhwc_bytes`")
    (turned,) = taking
    order = editor.values(turned.inputs[1])
    if order is None or order.tolist() != CHANNELS_LAST:
        raise ExportError("the converter turns the image otherwise; export it without `nhwc_bytes`")
    (pixels,) = turned.outputs
    tensor, types = graph.tensors[source], schema.TensorType
    tensor.type, tensor.shape, tensor.shapeSignature = types.UINT8, list(graph.tensors[pixels].shape), None
    floats = editor.computed(tensor.name + b"_floats", tensor.shape)
    most = editor.constant(tensor.name + b"_most", np.full(1, 255, np.float32))
    kinds = schema.CastOptionsT(inDataType=types.UINT8, outDataType=types.FLOAT32)
    place = graph.operators.index(turned)
    graph.operators[place : place + 1] = [
        editor.operator("CAST", 1, [source], floats, kinds),
        editor.operator("DIV", 1, [floats, most], pixels, schema.DivOptionsT()),
    ]


def taken_shape(tensor: StoredTensor) -> tuple[int, ...]:
    """The shape of the inputs that are given for a tensor: of an image of bytes that of the floats."""
    shape = tensor.free_shape
    return (shape[0], shape[3], *shape[1:3]) if tensor.dtype == "uint8" else shape


def as_taken(inputs: npt.NDArray[Any], tensor: StoredTensor) -> npt.NDArray[Any]:
    """A tower's inputs [N, ...] as its input tensor takes them: pixels [N, 3, S, S] in [0, 1] as bytes [N, S, S, 3]."""
    if tensor.dtype == "uint8":
        inputs = np.rint(inputs * 255).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(inputs, dtype=tensor.dtype)
