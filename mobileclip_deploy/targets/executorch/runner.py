"""Running a .pte: XNNPACK in the wheel's own runtime, Core ML's part by this package's evaluator, others not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed, first_sentence
from mobileclip_deploy.targets.executorch.program_file import TensorSpec
from mobileclip_deploy.targets.foreign.executorch import SET_THREADS
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import require_shape

if TYPE_CHECKING:
    from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact

__all__ = ["RuntimeRunner"]

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
        return np.concatenate([self.run_batch(inputs[at : at + size]) for at in range(0, len(inputs), size)])

    def run_batch(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """One call of the runtime: one input, or as many as the file allows at a time.

        Raises:
            InvalidInput: it is of another shape, or a larger batch.
            RuntimeFailed: the runtime failed.
        """
        require_shape(inputs, self._input.shape)
        if not 1 <= len(inputs) <= self._input.largest_batch:
            raise InvalidInput(f"a batch of {len(inputs)}; this file takes 1 to {self._input.largest_batch} at a time")
        assert self._method is not None
        rows = torch.from_numpy(np.ascontiguousarray(inputs, dtype=TYPES[self._input.dtype]))
        try:
            with hold_back():
                (output,) = self._method.execute([rows])
        except Exception as error:
            raise RuntimeFailed(f"ExecuTorch failed: {first_sentence(error)}") from error
        # The runtime writes every call's output into the same memory.
        return output.numpy().astype(np.float32, copy=True)
