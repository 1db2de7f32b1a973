"""ONNX Runtime on the CPU, timed: here, and in the Android harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup
from mobileclip_deploy.targets.int8_sums import exact_int8, session_options
from mobileclip_deploy.targets.values import TensorInfo

__all__ = ["OnnxSession", "declared"]

GRAPH = "graph.onnx"


class OnnxSession(Session):
    """ONNX Runtime on the CPU: a pool of `threads`, operators one after the other."""

    def __init__(self, path: Path, setup: SessionSetup, profiled: Path | None = None) -> None:
        import onnxruntime

        options = session_options(setup.threads, (*setup.place.options, *exact_int8()))
        options.inter_op_num_threads = 1
        self._path, self._setup = path, setup
        if profiled is not None:  # into this folder: its events, and the graph as the runtime made it
            options.enable_profiling = True
            options.profile_file_prefix = str(profiled / "profile")
            options.optimized_model_filepath = str(profiled / GRAPH)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [setup.output.name]
        self._feeds: dict[str, npt.NDArray[Any]] = {}
        self._outputs: list[npt.NDArray[Any]] = []

    def feed(self, values: npt.NDArray[Any]) -> None:
        # A picture of any size has no batch.
        self._feeds = {self._setup.input.name: values[0] if len(self._setup.input.shape) == 3 else values}

    def run(self) -> None:
        self._outputs = self._session.run(self._names, self._feeds)

    def answer(self) -> npt.NDArray[np.float32]:
        return np.asarray(self._outputs[0], dtype=np.float32).reshape(-1)

    def profile(self) -> tuple[KernelTime, ...]:
        from mobileclip_deploy.targets.onnx.profiling import operator_times

        with temporary_folder() as folder:
            twin = OnnxSession(self._path, self._setup, folder)
            twin._feeds = self._feeds
            return operator_times(twin._session, twin.run, folder / GRAPH)


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of any .onnx, as ONNX Runtime understands it without optimizing."""
    import onnxruntime

    options = session_options()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return tuple(map(_info, session.get_inputs())), tuple(map(_info, session.get_outputs()))


def _info(port: Any) -> TensorInfo:
    element = port.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else 0 for size in port.shape)  # free dimensions have a name or None
    return TensorInfo(port.name, "float32" if element == "float" else element, shape)
