"""Core ML, timed on each of its compute units: by the Swift harness, or by coremltools on a Mac as host."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.coreml.runner import COMPUTE_UNITS
from mobileclip_deploy.targets.mlpackage import import_coremltools

__all__ = ["CoreMLSession"]


class CoreMLSession(Session):
    """Core ML on this Mac, called through coremltools, whose call takes part in the time."""

    def __init__(self, path: Path, setup: SessionSetup, function: str | None) -> None:
        if platform.system() != "Darwin":
            raise NotRun("Core ML exists on macOS only")
        ct = import_coremltools()
        units = ct.ComputeUnit[COMPUTE_UNITS[setup.place.compute_units or "all"]]
        self._setup = setup
        self._model = ct.models.MLModel(str(path), compute_units=units, function_name=function)
        self._feeds: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}

    def feed(self, values: npt.NDArray[Any]) -> None:
        from PIL import Image

        is_image = self._setup.input.dtype == "uint8"
        value = Image.fromarray(values[0].transpose(1, 2, 0)) if is_image else values  # [1, 3, S, S] -> [S, S, 3]
        self._feeds = {self._setup.input.name: value}

    def run(self) -> None:
        self._outputs = self._model.predict(self._feeds)

    def answer(self) -> npt.NDArray[np.float32]:
        return np.asarray(self._outputs[self._setup.output.name], dtype=np.float32).reshape(-1)
