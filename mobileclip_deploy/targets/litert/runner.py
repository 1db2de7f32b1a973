"""Running a .tflite on the CPU of this machine, in LiteRT's own interpreter."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import RuntimeFailed, first_sentence
from mobileclip_deploy.targets.litert.model_file import SIGNATURE
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact
from mobileclip_deploy.targets.litert.pixels import as_taken, taken_shape
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import require_shape

__all__ = ["LiteRTRunner"]


class LiteRTRunner:
    """A file, loaded; one inference per input.

    Args:
        content: what to run instead of what stands in the file; `how` it was changed, in words.

    Raises:
        InvalidInput: the file is damaged.
        RuntimeFailed: the runtime does not take it, or fails on valid inputs.
    """

    def __init__(self, artifact: LiteRTArtifact, content: bytes | None = None, how: str = "") -> None:
        path, model = artifact.path, artifact.model
        _ = artifact.graph  # the runtime trusts what a file says of its tensors
        (self._input, place), *_ = model.inputs.items()
        self._output, *_ = model.outputs
        self._tensor = model.tensors[place]
        threads = torch.get_num_threads()
        version = importlib.metadata.version("ai-edge-litert")
        self.engine = f"LiteRT {version} (CPU{how}, {threads} thread{'s' if threads > 1 else ''})"
        data = path.read_bytes() if content is None else content
        try:
            with quiet(), hold_back():
                from ai_edge_litert.interpreter import Interpreter

                self._interpreter = Interpreter(model_content=data, num_threads=threads)
                self._interpreter.allocate_tensors()
                self._run = self._interpreter.get_signature_runner(SIGNATURE)
        except Exception as error:  # the bindings raise ValueError and RuntimeError
            raise RuntimeFailed(f"{self.engine} cannot load {path}: {first_sentence(error)}") from error

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, taken_shape(self._tensor))
        rows = as_taken(inputs, self._tensor)
        try:
            answers = [self._run(**{self._input: row[None]})[self._output] for row in rows]
        except Exception as error:
            raise RuntimeFailed(f"{self.engine} failed: {first_sentence(error)}") from error
        return np.concatenate(answers).astype(np.float32)
