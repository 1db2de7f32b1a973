"""What a .tflite quantizes to int8 by scales that stand in it, followed in LiteRT's plain kernels: XNNPACK keeps no
values in between. What is quantized as it runs is left as it is: those steps stand nowhere.

The same file with the numbers that stand in it, computed in float32, is what it is compared with.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, Malformed, RuntimeFailed, worded
from mobileclip_deploy.targets.graph import Constant, Graph, Node, Wire, wires
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import ModelFile, parse_model
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact
from mobileclip_deploy.targets.litert.static import computed_values
from mobileclip_deploy.targets.litert.weights import PLACES, dequantized
from mobileclip_deploy.targets.quantized import Floats, Flow, QuantizedFile, QuantizedValue

QUANTIZE, DEQUANTIZE = ROUNDINGS = "QUANTIZE", "DEQUANTIZE"


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


# They change no number.
SHAPES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")


class QuantizedLiteRT(QuantizedFile):
    """A file with int8 activations. Values are called by the places of their tensors.

    Raises:
        InvalidInput: it is damaged, or quantizes by more than one scale per tensor.
    """

    def __init__(self, artifact: LiteRTArtifact) -> None:
        self._path, self._model = artifact.path, artifact.model
        try:
            self.values = tuple(_quantized_values(artifact.graph))
            self._plain = plain_model(artifact)
            self._floats = parse_model(self._plain)
            self._content = quantizing_as_stored(artifact)
        except (Malformed, ValueError, IndexError, KeyError) as error:
            raise InvalidInput(f"{artifact.path}: what it quantizes cannot be read: {worded(error)}") from error
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
        try:
            (found,) = computed_values(content, model, row, places)
        except (RuntimeError, ValueError) as error:
            raise RuntimeFailed(f"{self.engine} failed on {self._path}: {error}") from error
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
        scale, zero = (float(_number(node, f"output {integers.output} {what}")) for what in ("scale", "zero point"))
        named = graph.names[integers], graph.names[source], tuple(graph.names[taker] for taker in takers)
        yield QuantizedValue(*named, scale, int(zero), int(ends.min), int(ends.max), scale)


def _number(node: Node, called: str) -> float:
    value = dict(node.inputs)[called]
    assert isinstance(value, Constant)
    return float(value.values.item())


def _bias_steps(graph: Graph) -> Iterator[tuple[str, Floats]]:
    """The scales of biases that are integers, by the name of their layer's weight."""
    for node in graph.nodes:
        given = dict(node.inputs)
        weight, scale = given.get("input 1"), given.get("input 2 scale")
        whole = node.type in PLACES and node.settings.get("input 2 type") == "int32"
        if whole and isinstance(weight, Constant) and isinstance(scale, Constant):
            yield weight.name, scale.values.astype(np.float32)
