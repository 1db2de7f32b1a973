"""Any .onnx of unknown origin: a session with all inputs and outputs, after checks that it reads no other files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, numpy_helper

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.errors import InvalidInput, NotRun, listed
from mobileclip_deploy.targets.foreign_file import ForeignFile, StoredConstant
from mobileclip_deploy.targets.onnx.dynamic import require_grids, weight_grids
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.quantized import DYNAMIC, plain_model
from mobileclip_deploy.targets.onnx.runner import declared, open_session

DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Domains whose operators ONNX Runtime has."""
CONTEXT = "EPContext"
"""Operator whose content is a binary for one chip."""


def open_foreign(path: Path) -> ForeignFile:
    """Loads a file.

    Raises:
        InvalidInput: not a readable model, or its data is in files outside of its folder.
        NotRun: operators that ONNX Runtime does not have, or a binary for a chip.
    """
    artifact = OnnxArtifact(path)
    model = artifact.model
    operators = _operators(path, model)
    tensors = list(_tensors(model))
    _require_own_files(path, tensors)
    inputs, outputs = declared(path)
    engine = f"ONNX Runtime {onnxruntime.__version__} (CPU)"

    def opened(source: Path | bytes) -> ForeignFile:
        session = open_session(source)

        def call(values: Sequence[Array]) -> list[Array]:
            names = (port.name for port in inputs)
            results: list[Array] = session.run(None, dict(zip(names, values, strict=True)))
            return results

        return ForeignFile(inputs, outputs, engine, call, constants, operators)

    def constants() -> Iterator[StoredConstant]:
        grids = weight_grids(model)
        for tensor in tensors:
            values = numpy_helper.to_array(tensor, str(path.parent))
            if values.dtype.isbuiltin != 1:  # numpy lacks integers of 4 bits and bfloat16
                values = values.astype(np.float32 if tensor.data_type == TensorProto.BFLOAT16 else np.int8)
            yield StoredConstant(tensor.name, values, *grids.get(tensor.name, ()))

    def without_rounding() -> ForeignFile:
        require_grids(model)
        return opened(plain_model(artifact).SerializeToString())

    file = opened(path)
    return replace(file, unrounded=without_rounding) if DYNAMIC in operators else file


def _operators(path: Path, model: onnx.ModelProto) -> frozenset[str]:
    """Returns the names of all operators.

    Raises:
        NotRun: see `open_foreign`.
    """
    local = {(function.domain, function.name) for function in model.functions}
    nodes = list(_nodes(model))
    if any(node.op_type == CONTEXT for node in nodes):
        raise NotRun(f"{path} holds a binary for one chip ({CONTEXT}), which the CPU cannot run; give the model before")
    foreign = {
        f"{node.domain}.{node.op_type}"
        for node in nodes
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in local
    }
    if foreign:
        raise NotRun(f"{path} needs operators of other libraries ({listed(sorted(foreign))}), which are never loaded")
    return frozenset(node.op_type for node in nodes)


def _graphs(part: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yields a graph, or the body of a function, and its branches."""
    yield part
    for node in part.node:
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                yield from _graphs(branch)


def _parts(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    for part in (model.graph, *model.functions):
        yield from _graphs(part)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yields the operations of the graph, of its branches and of functions."""
    return (node for part in _parts(model) for node in part.node)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yields the stored tensors of a model, also those of branches, of functions and of Constant operations."""
    for part in _parts(model):
        if isinstance(part, onnx.GraphProto):
            yield from part.initializer
    for node in _nodes(model):
        for entry in node.attribute:
            yield from entry.tensors
            if entry.type == AttributeProto.TENSOR:
                yield entry.t


def _require_own_files(path: Path, tensors: Sequence[TensorProto]) -> None:
    for tensor in tensors:
        places = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        if not within(path.parent, places.get("location", "")).is_file():
            raise InvalidInput(f"{path}: the file of its data, {places['location'][:60]!r}, is missing; put it there")
