"""Runners of a .mlpackage: Core ML on a Mac, also for timing, and this package's evaluator elsewhere."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.json_text import parse_json
from mobileclip_deploy.errors import RuntimeFailed, reraising, wrapping_runtime_errors
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.quiet import quiet
from mobileclip_deploy.targets.values import as_bytes
from mobileclip_deploy.targets.vendor_internals.coremltools import import_coremltools

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil import Precision, Program

# Core ML's names (MLComputeUnits) and coremltools' names. Core ML may move work from any of them to the CPU.
COMPUTE_UNITS = {
    "cpuOnly": "CPU_ONLY",
    "cpuAndGPU": "CPU_AND_GPU",
    "cpuAndNeuralEngine": "CPU_AND_NE",
    "all": "ALL",
}


class EvaluatorRunner:
    """Evaluator of the written package in torch, op by op.

    A program whose results are declared float16 is evaluated with every result rounded to float16; a `plain` one in
    float32.
    """

    def __init__(self, program: Program, *, plain: bool = False) -> None:
        self._program = program
        self._precision: Precision = "float32" if plain else program.arithmetic
        self.engine = f"mobileclip_deploy.mil ({self._precision} arithmetic; not Core ML)"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        result = self._program.outputs[-1]  # a classifier's probabilities come after its label
        fed = list(feeds(self._program, inputs))
        if result.kind == "probabilities":
            answers = [self._program(feed, precision=self._precision)[result.name] for feed in fed]
            return np.array([list(answer.values()) for answer in answers], np.float32)
        return self._program.many(fed, precision=self._precision)[result.name][:, 0].astype(np.float32)


def feeds(program: Program, inputs: npt.NDArray[np.generic]) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Yields the evaluator's arguments for each of a tower's inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, L]."""
    (source,) = program.inputs
    rows = as_bytes(inputs) if source.kind == "image" else inputs.astype(np.int32)[:, None]
    yield from ({source.name: row} for row in rows)


def _loaded(path: Path, unit: str, function: str | None) -> Any:
    ct = import_coremltools()
    units = ct.ComputeUnit[COMPUTE_UNITS[unit]]
    return ct.models.MLModel(str(path), compute_units=units, function_name=function)


class CoreMLRunner:
    """Runner of Core ML on this Mac, one prediction per input.

    Args:
        unit: one of `COMPUTE_UNITS`, which Core ML may use.
        function: name of the function, if the package has several.
    """

    def __init__(self, path: Path, unit: str = "all", function: str | None = None) -> None:
        self.engine = f"Core ML (macOS {platform.mac_ver()[0]}, {unit})"
        with wrapping_runtime_errors(f"{self.engine} cannot load {path}"), quiet():
            self._model = _loaded(path, unit, function)
        description = self._model.get_spec().description
        named = {item.name: item for item in description.functions}
        ports = named[function] if function is not None else description
        self._input = ports.input[0].name
        self._output = ports.output[0].name
        self._labels: list[str] | None = None
        if description.predictedProbabilitiesName:
            self._output = description.predictedProbabilitiesName
            message = f"{path} is a classifier, but its labels.json cannot be read"
            with reraising(message, OSError, ValueError, into=RuntimeFailed):
                # For their order: Core ML returns a dictionary without order.
                self._labels = list(parse_json((path.parent / "labels.json").read_text(encoding="utf-8")))
        self._is_image = ports.input[0].type.WhichOneof("Type") == "imageType"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        from PIL import Image

        rows = list(as_bytes(inputs) if self._is_image else inputs.astype(np.int32)[:, None])
        values = [Image.fromarray(row) for row in rows] if self._is_image else rows
        with wrapping_runtime_errors(f"{self.engine} failed"):
            outputs = [self._model.predict({self._input: value})[self._output] for value in values]
        if self._labels is not None:
            return np.array([[output[label] for label in self._labels] for output in outputs], np.float32)
        return np.concatenate(outputs).astype(np.float32)


class CoreMLSession(Session):
    """Session of Core ML on this Mac through coremltools, whose overhead is part of the measured time."""

    def __init__(self, path: Path, setup: SessionSetup, function: str | None) -> None:
        self._setup = setup
        self._model = _loaded(path, setup.place.compute_units or "all", function)
        self._feeds: dict[str, Any] = {}

    def feed(self, values: npt.NDArray[Any]) -> None:
        from PIL import Image

        is_image = self._setup.input.dtype == "uint8"
        value = Image.fromarray(values[0].transpose(1, 2, 0)) if is_image else values  # [1, 3, S, S] -> [S, S, 3]
        self._feeds = {self._setup.input.name: value}

    def run(self) -> None:
        self.output = self._model.predict(self._feeds)[self._setup.output.name]
