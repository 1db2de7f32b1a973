"""A file with the numbers that stand in it, computed in float32: activations are not rounded."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import read_model
from mobileclip_deploy.targets.litert.weights import PLACES, dequantized

__all__ = ["plain_model", "rounding_as_stored"]

ROUNDINGS = ("QUANTIZE", "DEQUANTIZE")


def plain_model(path: Path) -> bytes:
    """The file with every weight, bias and activation in float32, and no operator that rounds.

    Raises:
        InvalidInput: the file is damaged.
    """
    model = read_model(path)
    editor = Editor(path.read_bytes())
    for place, tensor in enumerate(model.tensors):
        if tensor.quantized is not None or tensor.dtype == "float16":
            editor.store_float(place, None if tensor.values is None else dequantized(tensor))
    same: dict[int, int] = {}
    for operator in model.operators:
        if operator.type in ROUNDINGS:
            (source,), (result,) = operator.inputs, operator.outputs
            same[result] = same.get(source, source)
    editor.leave_out(ROUNDINGS, same)
    return editor.packed()


def rounding_as_stored(path: Path) -> bytes:
    """The file without what it rounds as it runs: products of activations in float32 have weights in float32.

    Raises:
        InvalidInput: the file is damaged.
    """
    model = read_model(path)
    editor = Editor(path.read_bytes())
    weights = {
        one.inputs[PLACES[one.type]]
        for one in model.operators
        if one.type in PLACES and not any(model.tensors[result].quantized for result in one.outputs)
    }
    for place in weights:
        tensor = model.tensors[place]
        if tensor.quantized is not None and tensor.values is not None:
            editor.store_float(place, dequantized(tensor))
    return editor.packed()
