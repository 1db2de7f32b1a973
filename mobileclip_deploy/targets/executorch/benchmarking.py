"""ExecuTorch's XNNPACK, timed in the wheel's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup
from mobileclip_deploy.targets.foreign.executorch import LOAD, SET_THREADS
from mobileclip_deploy.targets.values import TensorInfo

__all__ = ["ExecuTorchSession", "declared"]

# ScalarType of ExecuTorch's and torch's schema.
SCALAR_TYPES = {0: "uint8", 3: "int32", 4: "int64", 5: "float16", 6: "float32"}


class ExecuTorchSession(Session):
    """ExecuTorch's runtime of the wheel, with a thread pool of `threads`."""

    def __init__(self, path: Path, setup: SessionSetup) -> None:
        SET_THREADS()(setup.threads)
        self._path = path
        self._module = LOAD()(str(path))
        self._inputs: tuple[Any, ...] = ()
        self._outputs: Any = ()

    def feed(self, values: npt.NDArray[Any]) -> None:
        import torch

        self._inputs = (torch.from_numpy(np.ascontiguousarray(values)),)

    def run(self) -> None:
        self._outputs = self._module.forward(self._inputs, False)  # False: the output is not copied

    def answer(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._outputs[0].float().numpy().reshape(-1).copy()
        return found

    def profile(self) -> tuple[KernelTime, ...]:
        from mobileclip_deploy.targets.executorch.etdump import operator_times

        return operator_times(self._path, self._inputs[0])


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of any .pte; a .pte does not name its tensors."""
    meta = LOAD()(str(path)).method_meta("forward")
    inputs = [_info(meta.input_tensor_meta(index), f"input_{index}") for index in range(meta.num_inputs())]
    outputs = [_info(meta.output_tensor_meta(index), f"output_{index}") for index in range(meta.num_outputs())]
    return tuple(inputs), tuple(outputs)


def _info(meta: Any, name: str) -> TensorInfo:
    number = int(meta.dtype())
    return TensorInfo(name, SCALAR_TYPES.get(number, f"type {number}"), tuple(meta.sizes()))
