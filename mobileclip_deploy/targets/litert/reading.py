"""A .tflite as a neutral graph: what it computes, whatever its tensors are called and in which order they stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.litert.model_file import ModelFile, Operator, StoredTensor, read_model

__all__ = ["graph_of", "read_graph"]


def read_graph(path: Path) -> Graph:
    """The graph of a .tflite.

    Raises:
        InvalidInput: it is damaged, or an operator takes what no earlier one gives.
    """
    return graph_of(read_model(path), path)


def graph_of(model: ModelFile, path: Path) -> Graph:
    """The graph of a model that was read from `path`.

    Raises:
        InvalidInput: see `read_graph`.
    """
    tensors = model.tensors
    values: dict[int, Input] = {
        place: Constant(tensor.values, tensor.name) for place, tensor in enumerate(tensors) if tensor.values is not None
    }
    for number, place in enumerate(model.inputs.values()):
        _give(values, place, Wire(None, number), path)
    nodes = []
    for number, operator in enumerate(model.operators):
        missing = [place for place in operator.inputs if place >= 0 and place not in values]
        if missing:
            raise InvalidInput(f"{path}: {operator.type} takes {tensors[missing[0]].name!r}, which nothing gave before")
        nodes.append(_node(operator, tensors, values))
        for output, place in enumerate(operator.outputs):
            _give(values, place, Wire(number, output), path)
    unknown = [place for place in model.outputs.values() if place not in values]
    if unknown:
        raise InvalidInput(f"{path}: its output {tensors[unknown[0]].name!r} is computed by nothing")
    return Graph(
        inputs=tuple(f"{name} {_kind(tensors[place])}" for name, place in model.inputs.items()),
        nodes=tuple(nodes),
        outputs=tuple(f"{name} {_kind(tensors[place])}" for name, place in model.outputs.items()),
        results=tuple(values[place] for place in model.outputs.values()),
    )


def _give(values: dict[int, Input], place: int, wire: Wire, path: Path) -> None:
    if place in values:
        raise InvalidInput(f"{path}: a tensor is given twice")
    values[place] = wire


def _node(operator: Operator, tensors: tuple[StoredTensor, ...], values: dict[int, Input]) -> Node:
    inputs: list[tuple[str, Input]] = []
    for number, place in enumerate(operator.inputs):
        inputs.append((f"input {number}", None if place < 0 else values[place]))
        if place >= 0 and isinstance(values[place], Constant):
            inputs += _grid(f"input {number}", tensors[place])
    for number, place in enumerate(operator.outputs):
        inputs += _grid(f"output {number}", tensors[place])
    shapes = {f"output {number}": _kind(tensors[place]) for number, place in enumerate(operator.outputs)}
    stored = {
        f"input {number} type": tensors[place].dtype
        for number, place in enumerate(operator.inputs)
        if place >= 0 and tensors[place].values is not None
    }
    settings = {"version": operator.version, **operator.settings, **shapes, **stored}
    name = tensors[operator.outputs[0]].name if operator.outputs else ""
    return Node(operator.type, tuple(inputs), settings, name)


def _grid(what: str, tensor: StoredTensor) -> Iterator[tuple[str, Input]]:
    """What the integers of a tensor stand for, as constants."""
    grid = tensor.quantized
    if grid is not None:
        yield f"{what} scale", Constant(grid.scale)
        yield f"{what} zero point", Constant(grid.zero_point)
        yield f"{what} axis and block", Constant(np.asarray([grid.axis, grid.block or 0]))


def _kind(tensor: StoredTensor) -> str:
    return f"{tensor.dtype} [{', '.join(str(size) if size else 'N' for size in tensor.free_shape)}]"
