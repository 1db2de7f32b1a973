"""Any .tflite of unknown origin: LiteRT's interpreter with all inputs and outputs of its main graph."""

import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import NotRun, listed
from mobileclip_deploy.targets.flatbuffer import read_file
from mobileclip_deploy.targets.foreign_file import ForeignFile, StoredConstant
from mobileclip_deploy.targets.litert.model_file import StoredParts, parse_parts
from mobileclip_deploy.targets.litert.runner import declared
from mobileclip_deploy.targets.litert.weights import scale_and_zero
from mobileclip_deploy.targets.quiet import hold_back


def open_foreign(path: Path) -> ForeignFile:
    """Loads a file.

    Raises:
        InvalidInput: not a readable .tflite.
        NotRun: operators that are not LiteRT's own.
    """
    parts: StoredParts = read_file(path, "tflite", parse_parts)
    if parts.custom:
        raise NotRun(f"{path} needs operators of other libraries ({listed(parts.custom)}), which are never loaded")
    inputs, outputs = declared(path)
    from ai_edge_litert.interpreter import Interpreter

    with hold_back():
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
    sources = [entry["index"] for entry in interpreter.get_input_details()]
    results = [entry["index"] for entry in interpreter.get_output_details()]
    shapes: dict[int, tuple[int, ...]] = {}

    def call(values: Sequence[Array]) -> list[Array]:
        if shapes != (new := {index: value.shape for index, value in zip(sources, values, strict=True)}):
            for index, port in zip(sources, inputs, strict=True):
                if 0 in port.shape:
                    interpreter.resize_tensor_input(index, new[index])
            interpreter.allocate_tensors()
            shapes.update(new)
        for index, value in zip(sources, values, strict=True):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in results]

    def constants() -> Iterator[StoredConstant]:
        for tensor in parts.constants:
            assert tensor.values is not None
            yield StoredConstant(tensor.name, tensor.values, *scale_and_zero(tensor))

    engine = f"LiteRT {importlib.metadata.version('ai-edge-litert')} (CPU)"
    return ForeignFile(inputs, outputs, engine, call, constants, frozenset(parts.operators))
