"""Running a .pte in the wheel's own runtime, to be asked and to be timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import NotRun, RuntimeFailed, first_sentence
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup
from mobileclip_deploy.targets.executorch.program_file import TensorSpec
from mobileclip_deploy.targets.foreign.executorch import LOAD, SET_THREADS
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import TensorInfo, require_shape

if TYPE_CHECKING:
    from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact

TYPES = {"float32": np.float32, "int64": np.int64}


class RuntimeRunner:
    """ExecuTorch's runtime with a thread pool of a given size, one input (or batch, where it is free) at a time.

    The pool belongs to the process: the runner that is made last sets it for all.

    Raises:
        InvalidInput: the file is damaged.
        NotRun: the runtime was built without one of the file's backends.
        RuntimeFailed: it does not load, or fails on valid inputs.
    """

    def __init__(self, artifact: ExecuTorchArtifact, threads: int) -> None:
        path, program = artifact.path, artifact.file
        self._input: TensorSpec = program.inputs[0]
        with quiet(), hold_back():
            from executorch.version import __version__

            from mobileclip_deploy.targets.executorch.bindings import runtime

            loaded = runtime.Runtime.get()
            available = loaded.backend_registry.registered_backend_names
            missing = [name for name in program.backends if name not in available]
            if missing:
                raise NotRun(f"needs {', '.join(missing)}; this build of ExecuTorch has {', '.join(sorted(available))}")
            SET_THREADS()(threads)
            try:
                self._program = loaded.load_program(path)
                self._method = self._program.load_method("forward")
            except Exception as error:  # the bindings raise RuntimeError and subclasses of their own
                raise RuntimeFailed(f"ExecuTorch cannot load {path}: {first_sentence(error)}") from error
        names = ", ".join(program.backends) or "portable kernels"
        self.engine = f"ExecuTorch {__version__} ({names}, {threads} thread{'s' if threads > 1 else ''})"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, self._input.shape)
        size = self._input.largest_batch
        return np.concatenate([self._batch(inputs[at : at + size]) for at in range(0, len(inputs), size)])

    def _batch(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """One call of the runtime: one input, or as many as the file allows at a time."""
        assert self._method is not None
        rows = torch.from_numpy(np.ascontiguousarray(inputs, dtype=TYPES[self._input.dtype]))
        try:
            with hold_back():
                (output,) = self._method.execute([rows])
        except Exception as error:
            raise RuntimeFailed(f"ExecuTorch failed: {first_sentence(error)}") from error
        # The runtime writes every call's output into the same memory.
        return output.numpy().astype(np.float32, copy=True)


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
