"""A .tflite opened, and what it computes as a graph, whatever its tensors are called and in which order they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.artifact import Artifact, counted
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.litert.model_file import ModelFile, Operator, StoredTensor, read_model
from mobileclip_deploy.targets.litert.runner import LiteRTRunner, LiteRTSession
from mobileclip_deploy.targets.litert.weights import TABLE
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    import numpy.typing as npt

    from mobileclip_deploy.mil.lint.report import LintReport
    from mobileclip_deploy.targets.compiled import Compiled
    from mobileclip_deploy.targets.quantized import QuantizedFile


class LiteRTArtifact(Artifact):
    """A .tflite file of one graph and one signature."""

    weight_table = TABLE

    @cached_property
    def model(self) -> ModelFile:
        """Tensors and operators as they stand there."""
        return read_model(self.path)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(name, self.model.tensors[place]) for name, place in self.model.inputs.items())

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(name, self.model.tensors[place]) for name, place in self.model.outputs.items())

    @property
    def operators(self) -> dict[str, int]:
        return dict(Counter(operator.type for operator in self.model.operators))

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """`operators` by type, and `weight_bytes` by type of number."""
        stored: dict[str, int] = {}
        for tensor in self.model.tensors:
            if tensor.values is not None:
                stored[tensor.dtype] = stored.get(tensor.dtype, 0) + tensor.bytes
        return counted(self.operators, stored)

    @cached_property
    def graph(self) -> Graph:
        """An operator that takes what no earlier one gives is refused: the runtime trusts what a file says."""
        return graph_of(self.model, self.path)

    def lint(self, device: str) -> tuple[LintReport, ...]:
        from mobileclip_deploy.targets.litert.linting import lint_model

        return (lint_model(self, device.lower()),)

    def runner(self) -> Runner:
        return LiteRTRunner(self)

    def plain_runner(self) -> Runner:
        from mobileclip_deploy.targets.litert.quantized import plain_model

        return LiteRTRunner(self, plain_model(self), ", float32 with the stored weights")

    def quantized(self) -> QuantizedFile:
        from mobileclip_deploy.targets.litert.quantized import QuantizedLiteRT

        return QuantizedLiteRT(self)

    def compiled(self, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        from mobileclip_deploy.targets.litert.gpu import compile_for_gpu, extremes
        from mobileclip_deploy.targets.litert.pixels import as_taken

        (taken,) = self.model.inputs.values()
        found = compile_for_gpu(self, None if inputs is None else as_taken(inputs, self.model.tensors[taken]))
        if inputs is None:
            return found
        largest, largest_sum = extremes(self, inputs)
        return replace(found, largest=largest, largest_sum=largest_sum)

    def session(self, setup: SessionSetup) -> Session:
        return LiteRTSession(self.path, setup)


def _info(name: str, tensor: StoredTensor) -> TensorInfo:
    return TensorInfo(name, tensor.dtype, tensor.free_shape)


def graph_of(model: ModelFile, path: Path) -> Graph:
    """The graph of a model that was read from `path`.

    Raises:
        InvalidInput: an operator takes what no earlier one gives.
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
        names={value: str(place) for place, value in values.items() if isinstance(value, Wire)},  # of tensors
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
