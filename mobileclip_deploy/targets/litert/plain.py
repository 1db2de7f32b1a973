"""A file with the numbers that stand in it, computed in float32: activations are not rounded."""

from __future__ import annotations

from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact
from mobileclip_deploy.targets.litert.weights import PLACES, dequantized

__all__ = ["plain_model", "quantizing_as_stored"]

ROUNDINGS = ("QUANTIZE", "DEQUANTIZE")


def plain_model(artifact: LiteRTArtifact) -> bytes:
    """The file with every weight, bias and activation in float32, and no operator that rounds.

    Raises:
        InvalidInput: the file is damaged.
    """
    model = artifact.model
    editor = Editor(artifact.path.read_bytes())
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


def quantizing_as_stored(artifact: LiteRTArtifact) -> bytes:
    """The file without what it quantizes as it runs: products of activations in float32 have weights in float32.

    Raises:
        InvalidInput: the file is damaged.
    """
    model = artifact.model
    editor = Editor(artifact.path.read_bytes())
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
