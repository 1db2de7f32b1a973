"""Runners of a .tflite on this machine's CPU, in LiteRT's own interpreter, for answers and for timing."""

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import wrapping_runtime_errors
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.litert.model_file import SIGNATURE, OpenedModel
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import TensorInfo, compute_threads, require_shape


class LiteRTRunner:
    """A loaded file; one inference per input.

    Args:
        content: bytes to run instead of the file's; `how` describes the change in words.
    """

    def __init__(self, artifact: OpenedModel, content: bytes | None = None, how: str = "") -> None:
        path, model = artifact.path, artifact.model
        _ = artifact.graph  # validates the file: the runtime trusts its tensors' declarations
        (self._input, index), *_ = model.inputs.items()
        self._output, *_ = model.outputs
        self._tensor = model.tensors[index]
        threads = compute_threads()
        version = importlib.metadata.version("ai-edge-litert")
        self.engine = f"LiteRT {version} (CPU{how}, {threads} thread{'s' if threads > 1 else ''})"
        data = path.read_bytes() if content is None else content
        with wrapping_runtime_errors(f"{self.engine} cannot load {path}"), quiet(), hold_back():
            from ai_edge_litert.interpreter import Interpreter

            self._interpreter = Interpreter(model_content=data, num_threads=threads)
            self._interpreter.allocate_tensors()
            self._run = self._interpreter.get_signature_runner(SIGNATURE)

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, self._tensor.taken_shape)
        with wrapping_runtime_errors(f"{self.engine} failed"):
            rows = self._tensor.as_taken(inputs)
            answers = [self._run(**{self._input: row[None]})[self._output] for row in rows]
        return np.concatenate(answers).astype(np.float32)


class LiteRTSession(Session):
    """Session of LiteRT's interpreter with a thread pool of `threads`; input and output stay in its own memory."""

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
        output: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        return output.astype(np.float32).reshape(-1)


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Returns inputs and outputs of any .tflite, by the names of its tensors."""
    from ai_edge_litert.interpreter import Interpreter

    with hold_back():
        interpreter = Interpreter(str(path))
    inputs, outputs = (
        tuple(_info(entry) for entry in details)
        for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    return inputs, outputs


def _info(details: Any) -> TensorInfo:
    shape = tuple(0 if size == -1 else int(size) for size in details["shape_signature"])
    return TensorInfo(str(details["name"]), np.dtype(details["dtype"]).name, shape)
