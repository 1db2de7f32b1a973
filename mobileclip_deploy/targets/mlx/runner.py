"""MLX on this machine: the file where its device is here; without a GPU its operations on the CPU."""

from __future__ import annotations

import importlib.metadata
import threading
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, Malformed, RuntimeFailed, first_sentence
from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.mlx.function_file import MlxFunction, rewritten
from mobileclip_deploy.targets.mlx.replaying import STREAMS, replayed
from mobileclip_deploy.targets.values import require_shape

ALONE = threading.Lock()


class MlxRunner:
    """A function, imported as an app imports it; one inference per input.

    Args:
        wide: instead, step by step and in float32 throughout.

    Raises:
        InvalidInput: a step is not what the file says of its result.
        RuntimeFailed: MLX does not take the file.
    """

    def __init__(self, path: Path, function: MlxFunction, wide: bool = False) -> None:
        self._function, self._wide = function, wide
        (self._input,) = function.inputs
        here = function.device == "cpu" or mx.is_available(mx.gpu)
        self._device = mx.gpu if here and function.device == "gpu" and not wide else mx.cpu
        place = function.device.upper() if here else "CPU in the place of the GPU"
        self.engine = f"MLX {importlib.metadata.version('mlx')} ({place})"
        try:
            with mx.stream(STREAMS[mx.cpu]):  # nothing is computed yet
                replayed(function, mx.zeros(self._input.shape, getattr(mx, self._input.dtype)))
        except Malformed as error:
            raise InvalidInput(f"{path}: {error}") from error
        self._imported: Any = None
        if not wide:
            self._import(path, here)

    def _import(self, path: Path, here: bool) -> None:
        """Have MLX load the file; of one that this MLX, or this machine, does not take, a copy that it takes."""
        try:
            with temporary_folder() as folder:
                copy, device = folder / path.name, self._function.device if here else "cpu"
                if not here or self._function.metadata is None:
                    told = self._function.metadata or ""
                    copy.write_bytes(rewritten(path.read_bytes(), self._function, device, told))
                self._imported = mx.import_function(str(copy if copy.exists() else path))
                # Numbers are read when they are first needed, and on this thread alone.
                self._ask(np.zeros(self._input.shape, self._input.dtype))
        except (RuntimeError, ValueError) as error:
            raise RuntimeFailed(f"{self.engine} cannot load {path}: {first_sentence(error)}") from error

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, self._input.shape)
        try:
            return np.concatenate([self._ask(row[None].astype(self._input.dtype)) for row in inputs])
        except (RuntimeError, ValueError) as error:
            raise RuntimeFailed(f"{self.engine} failed: {first_sentence(error)}") from error

    def _ask(self, row: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        with ALONE, mx.stream(STREAMS[self._device]):
            given = mx.array(row)
            found = replayed(self._function, given, wide=True) if self._wide else self._imported(given)[0]
            return np.array(found)
