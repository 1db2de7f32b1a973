"""`LiteRTArtifact`: an opened .tflite, and its graph independent of names and order of its tensors.

Also traces the values that it quantizes to int8 by constant scales. LiteRT's plain kernels run it, since XNNPACK keeps
no intermediate values. Values quantized at run time are not traced, because the file has no scales for them. The traced
file is compared with the same file computed in float32 with the stored constants.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, reraising, wrapping_runtime_errors
from mobileclip_deploy.targets.artifact import Artifact, Compiled, counted
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.flatbuffer import read_file
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, wires
from mobileclip_deploy.targets.litert.computing import computed_values
from mobileclip_deploy.targets.litert.editing import LiteRTEditor
from mobileclip_deploy.targets.litert.model_file import ModelFile, ModelTensor, Operator, parse_model
from mobileclip_deploy.targets.litert.runner import LiteRTRunner, LiteRTSession
from mobileclip_deploy.targets.litert.weights import PLACES, TABLE, dequantized
from mobileclip_deploy.targets.quantized import Flow, QuantizedFile, QuantizedValue, number_of
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil.lint.report import LintReport


class LiteRTArtifact(Artifact):
    """A .tflite file with one graph and one signature."""

    weight_table = TABLE

    @cached_property
    def model(self) -> ModelFile:
        """Tensors and operators as stored."""
        return read_file(self.path, ".tflite", parse_model)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(name, self.model.tensors[index]) for name, index in self.model.inputs.items())

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(name, self.model.tensors[index]) for name, index in self.model.outputs.items())

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        weights = (tensor for tensor in self.model.tensors if tensor.values is not None)
        return counted(self.operators, ((tensor.dtype, tensor.bytes) for tensor in weights))

    @cached_property
    def graph(self) -> Graph:
        """Graph of the file. An operator that takes a tensor before any operator computes it is refused, since the
        runtime trusts a file."""
        return _graph(self.model, self.path)

    def lint(self, device: str) -> tuple[LintReport, ...]:
        from mobileclip_deploy.targets.litert.gpu import lint_model

        return (lint_model(self, device.lower()),)

    def runner(self) -> Runner:
        return LiteRTRunner(self)

    def plain_runner(self) -> Runner:
        return LiteRTRunner(self, plain_model(self), ", float32 with the stored weights")

    def quantized(self) -> QuantizedFile:
        return QuantizedLiteRT(self)

    def compiled(self, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        from mobileclip_deploy.targets.litert.gpu import compile_for_gpu, extremes

        if inputs is None:
            return compile_for_gpu(self)
        (source,) = self.model.inputs.values()
        compilation = compile_for_gpu(self, self.model.tensors[source].as_taken(inputs))
        largest, largest_sum = extremes(self, inputs)
        return replace(compilation, largest=largest, largest_sum=largest_sum)

    def session(self, setup: SessionSetup) -> Session:
        return LiteRTSession(self.path, setup)


def _info(name: str, tensor: ModelTensor) -> TensorInfo:
    return TensorInfo(name, tensor.dtype, tensor.free_shape)


def _graph(model: ModelFile, path: Path) -> Graph:
    tensors = model.tensors
    values: dict[int, Input] = {
        index: Constant(tensor.values, tensor.name) for index, tensor in enumerate(tensors) if tensor.values is not None
    }
    for position, index in enumerate(model.inputs.values()):
        _give(values, index, Wire(None, position), path)
    nodes = []
    for position, operator in enumerate(model.operators):
        missing = [index for index in operator.inputs if index >= 0 and index not in values]
        if missing:
            raise InvalidInput(
                f"{path}: {operator.type} takes {tensors[missing[0]].name!r}, which no operator before it computes"
            )
        nodes.append(_node(operator, tensors, values))
        for output, index in enumerate(operator.outputs):
            _give(values, index, Wire(position, output), path)
    unknown = [index for index in model.outputs.values() if index not in values]
    if unknown:
        raise InvalidInput(f"{path}: its output {tensors[unknown[0]].name!r} is never computed")
    return Graph(
        inputs=tuple(f"{name} {_kind(tensors[index])}" for name, index in model.inputs.items()),
        nodes=tuple(nodes),
        outputs=tuple(f"{name} {_kind(tensors[index])}" for name, index in model.outputs.items()),
        results=tuple(values[index] for index in model.outputs.values()),
        names={value: str(index) for index, value in values.items() if isinstance(value, Wire)},  # of tensors
    )


def _give(values: dict[int, Input], place: int, wire: Wire, path: Path) -> None:
    if place in values:
        raise InvalidInput(f"{path}: a tensor is computed twice")
    values[place] = wire


def _node(operator: Operator, tensors: tuple[ModelTensor, ...], values: dict[int, Input]) -> Node:
    inputs: list[tuple[str, Input]] = []
    for position, index in enumerate(operator.inputs):
        inputs.append((f"input {position}", None if index < 0 else values[index]))
        if index >= 0 and isinstance(values[index], Constant):
            inputs += _grid(f"input {position}", tensors[index])
    for position, index in enumerate(operator.outputs):
        inputs += _grid(f"output {position}", tensors[index])
    shapes = {f"output {position}": _kind(tensors[index]) for position, index in enumerate(operator.outputs)}
    stored = {
        f"input {position} type": tensors[index].dtype
        for position, index in enumerate(operator.inputs)
        if index >= 0 and tensors[index].values is not None
    }
    settings = {"version": operator.version, **operator.settings, **shapes, **stored}
    name = tensors[operator.outputs[0]].name if operator.outputs else ""
    return Node(operator.type, tuple(inputs), settings, name)


def _grid(what: str, tensor: ModelTensor) -> Iterator[tuple[str, Input]]:
    """Yields the quantization of a tensor's integers, as constants."""
    grid = tensor.quantized
    if grid is not None:
        yield f"{what} scale", Constant(grid.scale)
        yield f"{what} zero point", Constant(grid.zero_point)
        yield f"{what} axis and block", Constant(np.asarray([grid.axis, grid.block or 0]))


def _kind(tensor: ModelTensor) -> str:
    return f"{tensor.dtype} [{', '.join(str(size) if size else 'N' for size in tensor.free_shape)}]"


QUANTIZE, DEQUANTIZE = ROUNDINGS = "QUANTIZE", "DEQUANTIZE"


def plain_model(artifact: LiteRTArtifact) -> bytes:
    """Returns the file with every weight, bias and activation in float32, and without operators that round."""
    model = artifact.model
    editor = LiteRTEditor(artifact.path.read_bytes())
    for index, tensor in enumerate(model.tensors):
        if tensor.quantized is not None or tensor.dtype == "float16":
            editor.store_float(index, None if tensor.values is None else dequantized(tensor))
    same: dict[int, int] = {}
    for operator in model.operators:
        if operator.type in ROUNDINGS:
            (source,), (result,) = operator.inputs, operator.outputs
            same[result] = same.get(source, source)
    editor.leave_out(ROUNDINGS, same)
    return editor.packed()


def quantizing_as_stored(artifact: LiteRTArtifact) -> bytes:
    """Returns the file without quantization at run time: products of float32 activations get float32 weights."""
    model = artifact.model
    editor = LiteRTEditor(artifact.path.read_bytes())
    for operator in model.operators:
        if operator.type in PLACES and not any(model.tensors[result].quantized for result in operator.outputs):
            tensor = model.tensors[operator.inputs[PLACES[operator.type]]]
            if tensor.quantized is not None and tensor.values is not None:
                editor.store_float(operator.inputs[PLACES[operator.type]], dequantized(tensor))
    return editor.packed()


# Operators that change no element.
SHAPES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")


class QuantizedLiteRT(QuantizedFile):
    """A file with int8 activations. Values are named by their tensor indices."""

    def __init__(self, artifact: LiteRTArtifact) -> None:
        self._path, self._model = artifact.path, artifact.model
        message = f"{artifact.path}: its quantized values cannot be read"
        with reraising(message, ValueError, IndexError, KeyError):
            self.values = tuple(_quantized_values(artifact.graph))
            self._plain = plain_model(artifact)
            self._floats = parse_model(self._plain)
            self._content = quantizing_as_stored(artifact)
        self.bias_steps = dict(_bias_steps(artifact.graph))
        self.engine = f"LiteRT {importlib.metadata.version('ai-edge-litert')} (its plain kernels)"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        indices = {int(name) for name in self.followed}
        return {str(index): value for index, value in self._run(self._plain, self._floats, row, indices).items()}

    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        (result,) = self._model.outputs.values()
        indices = {result, *(int(value.name) for value in self.values)}
        computed = self._run(self._content, self._model, row, indices)
        return computed[result], {value.name: computed[int(value.name)] for value in self.values}

    def _run(
        self, content: bytes, model: ModelFile, row: npt.NDArray[np.generic], places: Collection[int]
    ) -> dict[int, npt.NDArray[Any]]:
        with wrapping_runtime_errors(f"{self.engine} failed on {self._path}"):
            (computed,) = computed_values(content, model, row, places)
        return computed


def _quantized_values(graph: Graph) -> Iterator[QuantizedValue]:
    """Yields the quantized values.

    Raises:
        ValueError: a tensor has several scales.
    """
    steps = {
        Wire(index, output): node
        for index, node in enumerate(graph.nodes)
        for output in range(len(node.inputs))
        if f"output {output} scale" in dict(node.inputs)
    }

    def quantizes(node: Node) -> bool:
        """Returns whether an operation quantizes a float value, not an already quantized one."""
        return node.type == QUANTIZE and not steps.keys() & wires(node)

    flow = Flow(graph, lambda node: node.type in (*ROUNDINGS, *SHAPES) and not quantizes(node), quantizes)
    for integers, node in steps.items():
        if quantizes(node):
            (source,) = wires(node)
            consumers = flow.taking(source, integers)
        elif node.type in (*ROUNDINGS, *SHAPES):
            continue
        else:
            source, consumers = integers, ()
        ends = np.iinfo(node.settings[f"output {integers.output}"].partition(" ")[0])
        scale, zero = (number_of(node, f"output {integers.output} {what}") for what in ("scale", "zero point"))
        named = graph.names[integers], graph.names[source], tuple(graph.names[consumer] for consumer in consumers)
        yield QuantizedValue(*named, scale, int(zero), int(ends.min), int(ends.max), scale)


def _bias_steps(graph: Graph) -> Iterator[tuple[str, Floats]]:
    """Yields the scales of integer biases, by the name of their layer's weight."""
    for node in graph.nodes:
        inputs = dict(node.inputs)
        weight, scale = inputs.get("input 1"), inputs.get("input 2 scale")
        whole = node.type in PLACES and node.settings.get("input 2 type") == "int32"
        if whole and isinstance(weight, Constant) and isinstance(scale, Constant):
            yield weight.name, scale.values.astype(np.float32)
