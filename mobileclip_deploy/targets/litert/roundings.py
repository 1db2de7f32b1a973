"""What a .tflite rounds to int8 by scales that stand in it, followed in LiteRT's plain kernels: XNNPACK keeps no values
in between. What is rounded as it runs is left as it is: those steps stand nowhere."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.targets.flatbuffer import Malformed
from mobileclip_deploy.targets.litert.model_file import ModelFile, parse_model, read_model
from mobileclip_deploy.targets.litert.plain import plain_model, rounding_as_stored
from mobileclip_deploy.targets.litert.reading import graph_of
from mobileclip_deploy.targets.litert.static import computed_values
from mobileclip_deploy.targets.litert.weights import weight_place
from mobileclip_deploy.targets.rounded import Floats, Flow, RoundedFile, RoundedValue

__all__ = ["RoundedLiteRT"]

# They change no number.
SHAPES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")
ROUNDINGS = ("QUANTIZE", "DEQUANTIZE")


class RoundedLiteRT(RoundedFile):
    """A file with int8 activations. Values are called by the places of their tensors.

    Raises:
        InvalidInput: it is damaged, or rounds by more than one scale a tensor.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._model = path, read_model(path)
        graph_of(self._model, path)  # the runtime trusts what a file says of its tensors
        try:
            self.values = tuple(_rounded_values(self._model))
            self._plain = plain_model(path)
            self._floats = parse_model(self._plain)
            self._content = rounding_as_stored(path)
        except (Malformed, ValueError, IndexError) as error:
            raise InvalidInput(f"{path}: its roundings cannot be read: {error}") from error
        self.bias_steps = dict(_bias_steps(self._model))
        self.engine = f"LiteRT {importlib.metadata.version('ai-edge-litert')} (its plain kernels)"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        places = {int(name) for value in self.values for name in (value.source, *value.takers)}
        return {str(place): found for place, found in self._run(self._plain, self._floats, row, places).items()}

    def rounded(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
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


def _is_rounded(model: ModelFile, place: int) -> bool:
    tensor = model.tensors[place]
    return tensor.values is None and tensor.quantized is not None


def _rounded_values(model: ModelFile) -> Iterator[RoundedValue]:
    """Raises ValueError for a tensor of several scales."""
    flow = Flow(frozenset(map(str, model.outputs.values())))
    sources: dict[int, int] = {}  # integers -> what they are rounded from; that place itself where it is an operator's
    for one in model.operators:
        (result,) = one.outputs[:1]
        if one.type == "QUANTIZE" and not _is_rounded(model, one.inputs[0]):
            sources[result] = one.inputs[0]
            continue
        if one.type in (*ROUNDINGS, *SHAPES):
            flow.reshape(str(one.inputs[0]), str(result))
            continue
        flow.compute(map(str, one.inputs), str(result))
        for other in one.outputs[1:]:
            flow.compute(map(str, one.inputs), str(other))
        sources |= {place: place for place in one.outputs if _is_rounded(model, place)}
    for place, source in sources.items():
        grid, ends = model.tensors[place].quantized, np.iinfo(model.tensors[place].dtype)
        assert grid is not None
        takers = () if place == source else flow.taking(str(source), str(place))
        scale, zero = float(grid.scale.item()), int(grid.zero_point.item())
        yield RoundedValue(str(place), str(source), takers, scale, zero, int(ends.min), int(ends.max), scale)


def _bias_steps(model: ModelFile) -> Iterator[tuple[str, Floats]]:
    """The scales of biases that are integers, by the name of their layer's weight."""
    for one in model.operators:
        weight = weight_place(model, one)
        if weight is None or len(one.inputs) < 3 or one.inputs[2] < 0:
            continue
        bias = model.tensors[one.inputs[2]]
        if bias.quantized is not None and bias.dtype == "int32":
            yield model.tensors[weight].name, bias.quantized.scale.astype(np.float32)
