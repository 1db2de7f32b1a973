"""Runners of a .pte in the wheel's own runtime, for answers and for timing, in total and by kind of operator."""

import statistics
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import NotRun, wrapping_runtime_errors
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup, by_work
from mobileclip_deploy.targets.executorch.program_file import DTYPES, ProgramFile
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import TensorInfo, require_shape
from mobileclip_deploy.targets.vendor_internals.executorch import LOAD, SET_THREADS, import_exir


class LoadedProgram(Protocol):
    """An opened .pte: its path, and its contents."""

    @property
    def path(self) -> Path: ...

    @property
    def file(self) -> ProgramFile: ...


class RuntimeRunner:
    """ExecuTorch's runtime with a thread pool of a given size, one input (or batch, if it is free) at a time.

    The pool belongs to the process: the most recent runner sets it for all.
    """

    def __init__(self, artifact: LoadedProgram, threads: int) -> None:
        path, program = artifact.path, artifact.file
        self._input = program.inputs[0]
        self._batch = next(iter(program.tensor(program.plan["inputs"][0])["sizes"]), 1)  # most inputs in one call
        with quiet(), hold_back():
            from executorch.version import __version__

            from mobileclip_deploy.targets.executorch.bindings import runtime

            loaded = runtime.Runtime.get()
            available = loaded.backend_registry.registered_backend_names
            missing = [name for name in program.backends if name not in available]
            if missing:
                raise NotRun(f"needs {', '.join(missing)}; this build of ExecuTorch has {', '.join(sorted(available))}")
            SET_THREADS()(threads)
            with wrapping_runtime_errors(f"ExecuTorch cannot load {path}"):
                self._program = loaded.load_program(path)
                self._method = self._program.load_method("forward")
        names = ", ".join(program.backends) or "portable kernels"
        self.engine = f"ExecuTorch {__version__} ({names}, {threads} thread{'s' if threads > 1 else ''})"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, self._input.shape)
        return np.concatenate([self._call(inputs[at : at + self._batch]) for at in range(0, len(inputs), self._batch)])

    def _call(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        assert self._method is not None
        rows = torch.from_numpy(np.ascontiguousarray(inputs, dtype=self._input.dtype))
        with wrapping_runtime_errors("ExecuTorch failed"), hold_back():
            (output,) = self._method.execute([rows])
        # Copied because the runtime writes every call's output to the same memory.
        return output.numpy().astype(np.float32, copy=True)


class ExecuTorchSession(Session):
    """Session of the wheel's ExecuTorch runtime, with a thread pool of `threads`."""

    def __init__(self, path: Path, setup: SessionSetup) -> None:
        SET_THREADS()(setup.threads)
        self._path = path
        self._module = LOAD()(str(path))
        self._inputs: tuple[Any, ...] = ()

    def feed(self, values: npt.NDArray[Any]) -> None:
        self._inputs = (torch.from_numpy(np.ascontiguousarray(values)),)

    def run(self) -> None:
        (self.output,) = self._module.forward(self._inputs, False)  # False: the output is not copied

    def answer(self) -> npt.NDArray[np.float32]:
        return super().answer().copy()

    def profile(self) -> tuple[KernelTime, ...]:
        return operator_times(self._path, self._inputs[0])


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Returns inputs and outputs of any .pte; a .pte does not name its tensors."""
    meta = LOAD()(str(path)).method_meta("forward")
    inputs = [_info(meta.input_tensor_meta(index), f"input_{index}") for index in range(meta.num_inputs())]
    outputs = [_info(meta.output_tensor_meta(index), f"output_{index}") for index in range(meta.num_outputs())]
    return tuple(inputs), tuple(outputs)


def _info(meta: Any, name: str) -> TensorInfo:
    code = int(meta.dtype())
    dtype = np.dtype(DTYPES[code]).name if code in DTYPES else f"type {code}"
    return TensorInfo(name, dtype, tuple(meta.sizes()))


WARM_UP, COUNTED = 2, 20
WHOLE = "Method::execute"
REST = "between operators"
# Events that include operators with their own events, which would be counted twice.
SPANS = (WHOLE, "DELEGATE_CALL", "OPERATOR_CALL")


def operator_times(path: Path, row: torch.Tensor) -> tuple[KernelTime, ...]:
    """Runs a .pte on one input, and returns the time of each operator, the most expensive first.

    Operators have their kernels' names, those of XNNPACK ("Convolution (NHWC, F32) DWConv") or, outside of delegates,
    ATen's; `REST` is the remaining time of an inference. Times are sums of each event's median: on a busy machine an
    operator is sometimes interrupted for many times its own time. Delegates record whole microseconds, so that small
    operators read as 0.
    """
    from mobileclip_deploy.targets.executorch.bindings import runtime

    with temporary_folder() as folder:
        dump = folder / "trace.etdp"
        program = runtime.Runtime.get().load_program(path, enable_etdump=True)
        method = program.load_method("forward")
        assert method is not None
        for _ in range(WARM_UP + COUNTED):
            method.execute([row])
        program.write_etdump_result_to_file(str(dump), str(dump.with_suffix(".bin")))
        if not dump.is_file() or not dump.stat().st_size:
            raise NotRun("this build of ExecuTorch traces no events")
        return _added_up(dump)


def _added_up(dump: Path) -> tuple[KernelTime, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tensors were not recorded
        import_exir()
        from executorch.devtools import Inspector

        blocks = Inspector(etdump_path=str(dump)).event_blocks
    events = [event for block in blocks if block.name == "Execute" for event in block.events if event.perf_data]
    whole = sum(_nanoseconds(event.perf_data.raw) for event in events if event.name == WHOLE)
    if whole <= 0:
        raise NotRun("the trace of this build of ExecuTorch holds no inference")
    # A delegate numbers its operators: "GELU (NC) #3".
    calls = [
        (event.name.partition(" #")[0].removeprefix("native_call_"), _nanoseconds(event.perf_data.raw), None)
        for event in events
        if event.name not in SPANS
    ]
    return by_work([*calls, (REST, max(0, whole - sum(spent for _, spent, _ in calls)), None)])


def _nanoseconds(milliseconds: list[float]) -> int:
    return round(statistics.median(milliseconds[WARM_UP:]) * 1e6)
