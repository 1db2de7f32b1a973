"""ONNX Runtime on the host's CPU: sessions, a runner of a tower, and a timed session, also by operator."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import reraising, wrapping_runtime_errors
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup, Work, by_work
from mobileclip_deploy.targets.onnx.int8_sums import as_run, exact_int8, session_options
from mobileclip_deploy.targets.values import TensorInfo, as_bytes, require_shape


def open_session(source: Path | bytes, threads: int | None = None, *, as_written: bool = False) -> Any:
    """Returns an `onnxruntime.InferenceSession`, with the options for running artifacts.

    Args:
        source: a file, or the contents of one.
        threads: number of threads; None for the runtime's choice.
        as_written: True to run node by node, without fusion.

    Raises:
        Exception: the runtime raised an exception; these have no common base.
    """
    options = session_options(threads, as_run())
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


BATCH = 16
PICTURE = "tensor(uint8)"
"""Input type that only towers for pictures of any size have."""
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


DAMAGE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
APPLIED = "applied"
"""Key of a file's metadata: mean and std that an app applies to pixels, which the graph undoes."""


def _normalisation(text: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Reads mean and std, [3, 1, 1] each.

    Raises:
        InvalidInput: the text is not three numbers each.
    """
    with reraising(f"the metadata `{APPLIED}` of an ONNX file is invalid", *DAMAGE):
        mean, std = (np.array(json.loads(text)[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    return mean, std


class OnnxRunner:
    """ONNX Runtime session of a file, or of `content` instead of it; see `open_session`. `lazily`: loaded by its first
    call."""

    def __init__(
        self,
        path: Path,
        content: bytes | None = None,
        threads: int | None = None,
        *,
        as_written: bool = False,
        lazily: bool = False,
    ) -> None:
        self._alone: OnnxRunner | None = None
        self._path, self._threads, self._as_written = path, threads, as_written
        self._from_contents = content is not None
        self.engine = f"ONNX Runtime {onnxruntime.__version__} (CPU)"
        if not lazily:  # contents are not stored: they may be large
            self._session = self._opened(path if content is None else content)

    @cached_property
    def _session(self) -> Any:
        return self._opened(self._path)

    def _opened(self, source: Path | bytes) -> Any:
        with wrapping_runtime_errors(f"ONNX Runtime cannot load {self._path}"):
            return open_session(source, self._threads, as_written=self._as_written)

    @cached_property
    def _input(self) -> Any:
        return self._session.get_inputs()[0]

    @cached_property
    def _applied(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        applied = self._session.get_modelmeta().custom_metadata_map.get(APPLIED)
        return None if applied is None else _normalisation(applied)

    def values(self, row: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[Any]]:
        """Returns all results of the file for one input [1, ...], by name, in its order."""
        source = as_bytes(row)[0] if self._input.type == PICTURE else row.astype(DTYPES[self._input.type])
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._all(np.ascontiguousarray(source)), strict=True))

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        if self._input.type == PICTURE:
            return np.stack([self.picture(picture) for picture in as_bytes(inputs)])
        dtype = DTYPES[self._input.type]
        require_shape(inputs, self._input.shape)
        parts = [self._all(inputs[start : start + BATCH].astype(dtype))[0] for start in range(0, len(inputs), BATCH)]
        return np.concatenate(parts).astype(np.float32)

    def alone(self) -> OnnxRunner:
        """Returns a runner with one thread: see `ThreadedRunner`. Many threads may call any session's `run`; a
        single-threaded session starts no others."""
        if self._from_contents or self._threads == 1:
            return self
        if self._alone is None:  # opening a session takes as long as some pictures
            self._alone = OnnxRunner(self._path, threads=1)
        return self._alone

    def picture(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeds one picture: see `PictureRunner`."""
        embedding: npt.NDArray[np.float32] = self._all(np.ascontiguousarray(picture))[0][0].astype(np.float32)
        return embedding

    def _all(self, values: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        if self._applied is not None:  # as the app does
            values = (values.astype(np.float32) - self._applied[0]) / self._applied[1]
        with wrapping_runtime_errors("ONNX Runtime failed"):
            return list(self._session.run(None, {self._input.name: values}))


GRAPH = "graph.onnx"


class OnnxSession(Session):
    """Session of ONNX Runtime on the CPU: a pool of `threads`, operators one after the other."""

    def __init__(self, path: Path, setup: SessionSetup, profiled: Path | None = None) -> None:
        options = session_options(setup.threads, (*setup.place.options, *exact_int8()))
        options.inter_op_num_threads = 1
        self._path, self._setup = path, setup
        if profiled is not None:  # the folder for its events, and for the graph as the runtime optimized it
            options.enable_profiling = True
            options.profile_file_prefix = str(profiled / "profile")
            options.optimized_model_filepath = str(profiled / GRAPH)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [setup.output.name]
        self._feeds: dict[str, npt.NDArray[Any]] = {}

    def feed(self, values: npt.NDArray[Any]) -> None:
        # A picture of any size has no batch.
        self._feeds = {self._setup.input.name: values[0] if len(self._setup.input.shape) == 3 else values}

    def run(self) -> None:
        (self.output,) = self._session.run(self._names, self._feeds)

    def profile(self) -> tuple[KernelTime, ...]:
        with temporary_folder() as folder:
            twin = OnnxSession(self._path, self._setup, folder)
            twin._feeds = self._feeds
            return operator_times(twin._session, twin.run, folder / GRAPH)


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Returns inputs and outputs of any .onnx, as ONNX Runtime reads them without optimizing."""
    options = session_options()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return tuple(map(_info, session.get_inputs())), tuple(map(_info, session.get_outputs()))


def _info(port: Any) -> TensorInfo:
    element = port.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else 0 for size in port.shape)  # free dimensions have a name or None
    return TensorInfo(port.name, "float32" if element == "float" else element, shape)


# An event of the profiler has its node's name and the shapes of its inputs and outputs. Weights that a kernel has
# packed for itself are missing there. Their shapes come from the runtime's optimized graph, which it writes next to its
# profile.
WARM_UP, COUNTED = 2, 10
EVENT = "_kernel_time"
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Index of the input that is the weight, [outputs, inputs of a group, ...]."""
PRODUCTS = frozenset(
    ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits", "MatMulInteger", "MatMulIntegerToFloat")
) | frozenset(("QLinearMatMul", "QGemm", "DynamicQuantizeMatMul"))
UNCOUNTED = frozenset(
    ("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention", "Einsum", "ConvTranspose", "QMoE", "MoE")
) | frozenset(("LSTM", "GRU", "RNN", "If", "Loop", "Scan"))
"""Operators whose multiplications do not follow from one weight's shape; only their time is reported."""
INTEGERS = frozenset(("uint8", "int8"))
TYPES: Mapping[str, Literal["float32", "float16"]] = {"float": "float32", "float16": "float16"}


@dataclass(frozen=True)
class _Node:
    """A node of the optimized graph: the shapes of its constants by position, their bytes, and its integer
    attributes."""

    shapes: tuple[tuple[int, ...] | None, ...]
    weight_bytes: int
    attributes: Mapping[str, int]


def operator_times(session: Any, run: Callable[[], None], graph: Path) -> tuple[KernelTime, ...]:
    """Returns the shortest time of each call in ten inferences, by operator and kind of convolution, the most expensive
    first.

    The shortest time is used because interruptions of a call are not part of its work.

    Args:
        session: a session with profiling enabled, which is ended.
        run: runs one inference of it.
        graph: its optimized graph. Work is reported only if onnx is installed.
    """
    for _ in range(WARM_UP + COUNTED):
        run()
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if str(event.get("name", "")).endswith(EVENT)]
    calls = len(kernels) // (WARM_UP + COUNTED)
    nodes = _nodes(graph) if importlib.util.find_spec("onnx") else {}
    rows = []
    for index in range(calls):
        same = kernels[WARM_UP * calls + index :: calls]
        microseconds = min(event["dur"] for event in same)
        node = nodes.get(same[0]["name"].removesuffix(EVENT))
        rows.append((same[0]["args"]["op_name"], microseconds * 1000, _work(same[0]["args"], node)))
    return by_work(rows)


def _nodes(graph: Path) -> dict[str, _Node | None]:
    """Returns the graph's nodes by name; None for a name that two nodes have."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    constants = {const.name: const for const in model.graph.initializer}
    nodes: dict[str, _Node | None] = {}
    for node in model.graph.node:
        weights = [constants.get(name) for name in node.input]
        sizes = [
            math.prod(const.dims) * onnx.helper.tensor_dtype_to_np_dtype(const.data_type).itemsize
            for const in weights
            if const
        ]
        integers = {entry.name: entry.i for entry in node.attribute if entry.type == onnx.AttributeProto.INT}
        described = _Node(tuple(tuple(const.dims) if const else None for const in weights), sum(sizes), integers)
        nodes[node.name] = None if node.name in nodes else described
    return nodes


def _work(event: Mapping[str, Any], node: _Node | None) -> Work | None:
    operator = event["op_name"]
    if operator in UNCOUNTED:
        return None
    moved = int(event["activation_size"]) + int(event["output_size"])
    if operator not in CONVOLUTIONS and operator not in PRODUCTS:
        return Work(0, moved + int(event["parameter_size"]))
    if node is None:
        return None
    moved += node.weight_bytes
    # One type and shape per port: [{"float": [1, 3]}, ...].
    ports = (event[f"{name}_type_shape"] for name in ("input", "output"))
    sources, results = ([item for port_types in port for item in port_types.items()] for port in ports)
    (kind, source), outputs = sources[0] if sources else ("", []), math.prod(results[0][1]) if results else 0
    arithmetic = "int8" if kind in INTEGERS or operator == "DynamicQuantizeMatMul" else TYPES.get(kind)
    if operator in CONVOLUTIONS:
        weight = node.shapes[CONVOLUTIONS[operator]]
        if weight is None:
            return None
        grouped = "" if node.attributes.get("group", 1) == 1 else " depthwise" if weight[1] == 1 else " grouped"
        kernel = "x".join(map(str, weight[2:]))  # `7x7 depthwise`
        return Work(2 * outputs * math.prod(weight[1:]), moved, kernel + grouped, arithmetic)
    depth = source[-2] if node.attributes.get("transA", 0) else source[-1]
    if operator == "MatMulNBits" and node.attributes.get("accuracy_level", 0) == 4:
        arithmetic = "int8"
    return Work(2 * outputs * depth, moved, None, arithmetic)
