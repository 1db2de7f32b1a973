"""A .tflite opened: what it computes as a graph, whatever its tensors are called and in which order they stand; and
what it quantizes to int8 by scales that stand in it, followed in LiteRT's plain kernels: XNNPACK keeps no values in
between. What is quantized as it runs is left as it is: those steps stand nowhere.

The same file with the numbers that stand in it, computed in float32, is what it is compared with.
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
from mobileclip_deploy.errors import InvalidInput, refusing, running
from mobileclip_deploy.targets.artifact import Artifact, Compiled, counted
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.flatbuffer import read_file
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, wires
from mobileclip_deploy.targets.litert.computing import computed_values
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import ModelFile, Operator, StoredTensor, parse_model
from mobileclip_deploy.targets.litert.runner import LiteRTRunner, LiteRTSession
from mobileclip_deploy.targets.litert.weights import PLACES, TABLE, dequantized
from mobileclip_deploy.targets.quantized import Flow, QuantizedFile, QuantizedValue, number_of
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil.lint.report import LintReport


class LiteRTArtifact(Artifact):
    """A .tflite file of one graph and one signature."""

    weight_table = TABLE

    @cached_property
    def model(self) -> ModelFile:
        """Tensors and operators as they stand there."""
        return read_file(self.path, ".tflite", parse_model)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(name, self.model.tensors[place]) for name, place in self.model.inputs.items())

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(name, self.model.tensors[place]) for name, place in self.model.outputs.items())

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        weights = (tensor for tensor in self.model.tensors if tensor.values is not None)
        return counted(self.operators, ((tensor.dtype, tensor.bytes) for tensor in weights))

    @cached_property
    def graph(self) -> Graph:
        """An operator that takes what no earlier one gives is refused: the runtime trusts what a file says."""
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
        (taken,) = self.model.inputs.values()
        found = compile_for_gpu(self, self.model.tensors[taken].as_taken(inputs))
        largest, largest_sum = extremes(self, inputs)
        return replace(found, largest=largest, largest_sum=largest_sum)

    def session(self, setup: SessionSetup) -> Session:
        return LiteRTSession(self.path, setup)


def _info(name: str, tensor: StoredTensor) -> TensorInfo:
    return TensorInfo(name, tensor.dtype, tensor.free_shape)


def _graph(model: ModelFile, path: Path) -> Graph:
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


QUANTIZE, DEQUANTIZE = ROUNDINGS = "QUANTIZE", "DEQUANTIZE"


def plain_model(artifact: LiteRTArtifact) -> bytes:
    """The file with every weight, bias and activation in float32, and no operator that rounds."""
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
    """The file without what it quantizes as it runs: products of activations in float32 have weights in float32."""
    model = artifact.model
    editor = Editor(artifact.path.read_bytes())
    for one in model.operators:
        if one.type in PLACES and not any(model.tensors[result].quantized for result in one.outputs):
            tensor = model.tensors[one.inputs[PLACES[one.type]]]
            if tensor.quantized is not None and tensor.values is not None:
                editor.store_float(one.inputs[PLACES[one.type]], dequantized(tensor))
    return editor.packed()


# They change no number.
SHAPES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")


class QuantizedLiteRT(QuantizedFile):
    """A file with int8 activations. Values are called by the places of their tensors."""

    def __init__(self, artifact: LiteRTArtifact) -> None:
        self._path, self._model = artifact.path, artifact.model
        told = f"{artifact.path}: what it quantizes cannot be read"
        with refusing(told, ValueError, IndexError, KeyError):
            self.values = tuple(_quantized_values(artifact.graph))
            self._plain = plain_model(artifact)
            self._floats = parse_model(self._plain)
            self._content = quantizing_as_stored(artifact)
        self.bias_steps = dict(_bias_steps(artifact.graph))
        self.engine = f"LiteRT {importlib.metadata.version('ai-edge-litert')} (its plain kernels)"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        places = {int(name) for name in self.followed}
        return {str(place): found for place, found in self._run(self._plain, self._floats, row, places).items()}

    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        (result,) = self._model.outputs.values()
        places = {result, *(int(value.name) for value in self.values)}
        found = self._run(self._content, self._model, row, places)
        return found[result], {value.name: found[int(value.name)] for value in self.values}

    def _run(
        self, content: bytes, model: ModelFile, row: npt.NDArray[np.generic], places: Collection[int]
    ) -> dict[int, npt.NDArray[Any]]:
        with running(f"{self.engine} failed on {self._path}"):
            (found,) = computed_values(content, model, row, places)
        return found


def _quantized_values(graph: Graph) -> Iterator[QuantizedValue]:
    """Raises ValueError for a tensor of several scales."""
    steps = {
        Wire(number, output): node
        for number, node in enumerate(graph.nodes)
        for output in range(len(node.inputs))
        if f"output {output} scale" in dict(node.inputs)
    }

    def quantizes(node: Node) -> bool:
        """Whether it quantizes what is not quantized yet."""
        return node.type == QUANTIZE and not steps.keys() & wires(node)

    flow = Flow(graph, lambda node: node.type in (*ROUNDINGS, *SHAPES) and not quantizes(node), quantizes)
    for integers, node in steps.items():
        if quantizes(node):
            (source,) = wires(node)
            takers = flow.taking(source, integers)
        elif node.type in (*ROUNDINGS, *SHAPES):
            continue
        else:
            source, takers = integers, ()
        ends = np.iinfo(node.settings[f"output {integers.output}"].partition(" ")[0])
        scale, zero = (number_of(node, f"output {integers.output} {what}") for what in ("scale", "zero point"))
        named = graph.names[integers], graph.names[source], tuple(graph.names[taker] for taker in takers)
        yield QuantizedValue(*named, scale, int(zero), int(ends.min), int(ends.max), scale)


def _bias_steps(graph: Graph) -> Iterator[tuple[str, Floats]]:
    """The scales of biases that are integers, by the name of their layer's weight."""
    for node in graph.nodes:
        given = dict(node.inputs)
        weight, scale = given.get("input 1"), given.get("input 2 scale")
        whole = node.type in PLACES and node.settings.get("input 2 type") == "int32"
        if whole and isinstance(weight, Constant) and isinstance(scale, Constant):
            yield weight.name, scale.values.astype(np.float32)
