"""Timing .tflite files: LiteRT's interpreter on so many threads of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.quiet import hold_back
from mobileclip_deploy.targets.values import TensorInfo

__all__ = ["LiteRTSession", "declared"]


class LiteRTSession(Session):
    """LiteRT's interpreter with a thread pool of `threads`; input and output stay in its own memory."""

    def __init__(self, path: Path, setup: SessionSetup) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with hold_back():
            self._interpreter = Interpreter(str(path), num_threads=setup.threads)
            self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def feed(self, values: npt.NDArray[Any]) -> None:
        self._interpreter.set_tensor(self._input["index"], values.astype(self._input["dtype"]))

    def run(self) -> None:
        self._interpreter.invoke()

    def answer(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        return found.astype(np.float32).reshape(-1)


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of any .tflite, by the names of its tensors."""
    from ai_edge_litert.interpreter import Interpreter

    with hold_back():
        interpreter = Interpreter(str(path))
    inputs, outputs = (
        tuple(_info(one) for one in details)
        for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    return inputs, outputs


def _info(details: Any) -> TensorInfo:
    shape = tuple(0 if size == -1 else int(size) for size in details["shape_signature"])
    return TensorInfo(str(details["name"]), np.dtype(details["dtype"]).name, shape)
