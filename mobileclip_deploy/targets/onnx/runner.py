"""ONNX Runtime on the host's CPU: sessions, a tower that runs in one, and one that is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import RuntimeFailed, first_sentence
from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup
from mobileclip_deploy.targets.int8_sums import as_run, exact_int8, session_options
from mobileclip_deploy.targets.values import TensorInfo, require_shape


def open_session(source: Path | bytes, threads: int | None = None, *, as_written: bool = False) -> Any:
    """An `onnxruntime.InferenceSession`, with the options by which artifacts are run.

    Args:
        source: a file, or what stands in one.
        threads: as many as the runtime chooses when None.
        as_written: run node by node, none fused with others.

    Raises:
        Exception: whatever the runtime raises; its exceptions have no common base.
    """
    import onnxruntime

    options = session_options(threads, as_run())
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


BATCH = 16
PICTURE = "tensor(uint8)"
"""Only towers that take pictures of any size have such an input."""
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


class OnnxRunner:
    """An ONNX Runtime session; see `open_session`.

    Args:
        path: the file.
        content: what to run in its place.
        threads: as many as the runtime chooses when None.
        as_written: node by node, none fused with others.

    Raises:
        RuntimeFailed: the session does not start, or fails on valid inputs.
    """

    def __init__(
        self, path: Path, content: bytes | None = None, threads: int | None = None, *, as_written: bool = False
    ) -> None:
        import onnxruntime

        self._alone: OnnxRunner | None = None
        self._path = path if content is None else None  # contents are not held: they may be large
        try:
            self._session = open_session(path if content is None else content, threads, as_written=as_written)
        except Exception as error:  # the runtime's own exceptions have no common base
            raise RuntimeFailed(f"ONNX Runtime cannot load {path}: {first_sentence(error)}") from error
        self._input = self._session.get_inputs()[0]
        self.engine = f"ONNX Runtime {onnxruntime.__version__} (CPU)"

    def values(self, row: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[Any]]:
        """All that the file gives for one input [1, ...], by name, in its order."""
        given = as_pictures(row)[0] if self._input.type == PICTURE else row.astype(DTYPES[self._input.type])
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._all(np.ascontiguousarray(given)), strict=True))

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        if self._input.type == PICTURE:
            return np.stack([self.picture(picture) for picture in as_pictures(inputs)])
        dtype = DTYPES[self._input.type]
        require_shape(inputs, self._input.shape)
        parts = [self._all(inputs[start : start + BATCH].astype(dtype))[0] for start in range(0, len(inputs), BATCH)]
        return np.concatenate(parts).astype(np.float32)

    def alone(self) -> OnnxRunner:
        """See `ThreadedRunner`. Any session's `run` may be called by many threads; one of a single thread starts no
        others."""
        if self._path is None:
            return self
        if self._alone is None:  # opening a session takes as long as some pictures
            self._alone = OnnxRunner(self._path, threads=1)
        return self._alone

    def picture(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `PictureRunner`."""
        found: npt.NDArray[np.float32] = self._all(np.ascontiguousarray(picture))[0][0].astype(np.float32)
        return found

    def _all(self, values: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        try:
            return list(self._session.run(None, {self._input.name: values}))
        except Exception as error:
            raise RuntimeFailed(f"ONNX Runtime failed: {first_sentence(error)}") from error


def as_pictures(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Pixels [N, 3, S, S] in [0, 1] as bytes [N, S, S, 3], which such a tower leaves at their size."""
    return np.rint(pixels.astype(np.float32) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


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
