"""One file loaded in one runtime, ready to be timed: the call alone, without conversion of its input or output."""

from __future__ import annotations

import importlib
import json
import os
import platform
import tempfile
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import OperatorTime
from mobileclip_deploy.errors import NotRun

__all__ = ["Session", "import_runtime", "open_session"]

Array = npt.NDArray[Any]


class Session(ABC):
    """`feed` puts an input [1, ...] in place, `run` is what is timed, `answer` gives the last output, float32 [D]."""

    @abstractmethod
    def feed(self, values: Array) -> None: ...

    @abstractmethod
    def run(self) -> None: ...

    @abstractmethod
    def answer(self) -> npt.NDArray[np.float32]: ...

    def profile(self) -> tuple[OperatorTime, ...]:
        """Operator times of one inference.

        Raises:
            NotRun: the runtime has no profiler here.
        """
        raise NotRun("this runtime has no profiler in its Python package")


class OnnxSession(Session):
    """ONNX Runtime on the CPU: a pool of `threads`, operators one after the other."""

    def __init__(self, cell: Cell, path: Path, profiled: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = cell.threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        for name, value in cell.options.items():
            options.add_session_config_entry(name, value)
        self._cell, self._path = cell, path
        self._profiled = tempfile.mkdtemp() if profiled else None
        if self._profiled:
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(self._profiled, "profile")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [cell.output.name]
        self._feeds: dict[str, Array] = {}
        self._outputs: list[Array] = []

    def feed(self, values: Array) -> None:
        self._feeds = {self._cell.input.name: values}

    def run(self) -> None:
        self._outputs = self._session.run(self._names, self._feeds)

    def answer(self) -> npt.NDArray[np.float32]:
        return np.asarray(self._outputs[0], dtype=np.float32).reshape(-1)

    def profile(self) -> tuple[OperatorTime, ...]:
        twin = OnnxSession(self._cell, self._path, profiled=True)
        twin._feeds = self._feeds
        for _ in range(3):  # the last one counts
            twin.run()
        events = json.loads(Path(twin._session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [event for event in events if str(event.get("name", "")).endswith("_kernel_time")]
        last = kernels[len(kernels) * 2 // 3 :]
        return _by_operator([(event["args"]["op_name"], event["dur"] * 1000) for event in last])


class ExecuTorchSession(Session):
    """ExecuTorch's runtime of the wheel, with a thread pool of `threads`."""

    def __init__(self, cell: Cell, path: Path) -> None:
        from executorch.extension.pybindings import portable_lib

        portable_lib._unsafe_reset_threadpool(cell.threads)
        self._path = path
        self._module = portable_lib._load_for_executorch(str(path))
        self._inputs: tuple[Any, ...] = ()
        self._outputs: Any = ()

    def feed(self, values: Array) -> None:
        import torch

        self._inputs = (torch.from_numpy(np.ascontiguousarray(values)),)

    def run(self) -> None:
        self._outputs = self._module.forward(self._inputs, False)

    def answer(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._outputs[0].float().numpy().reshape(-1).copy()
        return found

    def profile(self) -> tuple[OperatorTime, ...]:
        from mobileclip_deploy.benchmark.host.etdump import operator_times

        return operator_times(self._path, self._inputs[0])


class TorchSession(Session):
    """The checkpoint itself in torch: `unfolded` as it was trained, `folded`, or `compiled` (folded, torch.compile)."""

    def __init__(self, cell: Cell, path: Path) -> None:
        import torch

        from mobileclip_deploy.checkpoints import load
        from mobileclip_deploy.folding import fold, is_folded
        from mobileclip_deploy.towers import ImageTower, TextTower

        torch.set_num_threads(cell.threads)
        torch.set_grad_enabled(False)
        size = cell.input.shape[-1] if cell.tower == "image" else None
        model = load(path, cell.variant, size)
        if cell.backend == "unfolded":
            if is_folded(model):
                raise NotRun("this checkpoint is folded: there is no unfolded form of it to time")
        elif not is_folded(model):
            fold(model)
        tower: Any = (ImageTower if cell.tower == "image" else TextTower)(model).eval()
        self._module = torch.compile(tower) if cell.backend == "compiled" else tower
        self._input: Any = None
        self._output: Any = None

    def feed(self, values: Array) -> None:
        import torch

        self._input = torch.from_numpy(np.ascontiguousarray(values))

    def run(self) -> None:
        self._output = self._module(self._input)

    def answer(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._output.numpy().reshape(-1).copy()
        return found

    def profile(self) -> tuple[OperatorTime, ...]:
        import torch

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            self.run()
        events = [event for event in found.key_averages() if event.self_cpu_time_total > 0]
        times = [
            OperatorTime(operator=event.key, calls=event.count, total_ns=int(event.self_cpu_time_total * 1000))
            for event in events
        ]
        return tuple(sorted(times, key=lambda one: -one.total_ns))


class CoreMLSession(Session):
    """Core ML on this Mac, called through coremltools, whose call takes part in the time."""

    def __init__(self, cell: Cell, path: Path) -> None:
        if platform.system() != "Darwin":
            raise NotRun("Core ML exists on macOS only")
        import coremltools as ct

        units = {
            "cpuOnly": ct.ComputeUnit.CPU_ONLY,
            "cpuAndGPU": ct.ComputeUnit.CPU_AND_GPU,
            "cpuAndNeuralEngine": ct.ComputeUnit.CPU_AND_NE,
            "all": ct.ComputeUnit.ALL,
        }
        self._cell = cell
        self._model = ct.models.MLModel(
            str(path),
            compute_units=units[cell.compute_units or "all"],
            function_name=cell.options.get("function"),
        )
        self._feeds: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}

    def feed(self, values: Array) -> None:
        from PIL import Image

        is_image = self._cell.input.dtype == "uint8"
        value = Image.fromarray(values[0].transpose(1, 2, 0)) if is_image else values
        self._feeds = {self._cell.input.name: value}

    def run(self) -> None:
        self._outputs = self._model.predict(self._feeds)

    def answer(self) -> npt.NDArray[np.float32]:
        return np.asarray(self._outputs[self._cell.output.name], dtype=np.float32).reshape(-1)


def _by_operator(times: list[tuple[str, int]]) -> tuple[OperatorTime, ...]:
    grouped: dict[str, list[int]] = defaultdict(list)
    for operator, duration in times:
        grouped[operator].append(duration)
    found = [OperatorTime(operator=name, calls=len(all_), total_ns=sum(all_)) for name, all_ in grouped.items()]
    return tuple(sorted(found, key=lambda one: -one.total_ns))


MODULES = {
    "onnxruntime": ("onnxruntime",),
    "executorch": ("torch", "executorch.extension.pybindings.portable_lib"),
    "torch": ("torch", "mobileclip_deploy.checkpoints", "mobileclip_deploy.folding", "mobileclip_deploy.towers"),
    "coreml": ("coremltools",),
}
SESSIONS: dict[str, type[OnnxSession] | type[ExecuTorchSession] | type[TorchSession] | type[CoreMLSession]] = {
    "onnxruntime": OnnxSession,
    "executorch": ExecuTorchSession,
    "torch": TorchSession,
    "coreml": CoreMLSession,
}


def import_runtime(cell: Cell) -> None:
    """Import what a cell needs, so that loading a model is not charged for loading Python modules."""
    for module in MODULES[cell.runtime]:
        importlib.import_module(module)


def open_session(cell: Cell, folder: Path) -> Session:
    """Load a cell's file.

    Raises:
        NotRun: this machine has nothing that can run it.
    """
    return SESSIONS[cell.runtime](cell, folder / cell.file)
