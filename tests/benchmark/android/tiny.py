"""Models of two operations, what they should answer, and the job for them: runs everywhere, in no time."""

import base64
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from benchmark import documents

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.benchmark.documents import write_document
from mobileclip_deploy.benchmark.plan import Plan

Values = np.ndarray[Any, np.dtype[np.float32]]

SHAPE = (1, 3, 8, 8)
WIDTH = 4


def weights() -> np.ndarray[Any, np.dtype[np.float32]]:
    """[3 x 8 x 8, WIDTH]"""
    return np.random.default_rng(7).standard_normal((int(np.prod(SHAPE)), WIDTH)).astype(np.float32)


@functools.cache
def onnx_bytes() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, WIDTH))],
        [numpy_helper.from_array(weights(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@functools.cache
def program() -> bytes:
    """The same as an ExecuTorch program, its multiplication in XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    linear = torch.nn.Linear(int(np.prod(SHAPE)), WIDTH, bias=False)
    linear.weight = torch.nn.Parameter(torch.from_numpy(weights().T.copy()))
    exported = torch.export.export(torch.nn.Sequential(torch.nn.Flatten(), linear).eval(), (torch.zeros(SHAPE),))
    return to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch().buffer


@functools.cache
def flatbuffer(capped: bool = False) -> bytes:
    """The same as a LiteRT model. `capped`: to 0 and 1 by an operation that LiteRT's GPU does not have."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    shape, weight = (np.asarray((1, int(np.prod(SHAPE))), np.int32), weights().T.copy())  # [WIDTH, 3 x 8 x 8]
    model, graph, signature = schema.ModelT(), schema.SubGraphT(), schema.SignatureDefT()
    model.version, model.description = 3, "tiny"
    model.buffers = [_table(schema.BufferT, data=data) for data in (None, _bytes(shape), _bytes(weight))]
    float32, int32 = schema.TensorType.FLOAT32, schema.TensorType.INT32
    graph.tensors = [
        _table(schema.TensorT, name=name, shape=list(size), type=dtype, buffer=buffer)
        for name, size, dtype, buffer in (
            ("x", SHAPE, float32, 0),
            ("shape", (2,), int32, 1),
            ("flat", shape, float32, 0),
            ("w", weight.shape, float32, 2),
            ("product", (1, WIDTH), float32, 0),
            ("y", (1, WIDTH), float32, 0),
        )
    ]
    operators = schema.BuiltinOperator
    model.operatorCodes = [
        _table(schema.OperatorCodeT, builtinCode=kind, deprecatedBuiltinCode=min(kind, 127))
        for kind in (operators.RESHAPE, operators.FULLY_CONNECTED, operators.RELU_0_TO_1)
    ]
    product = {
        "builtinOptionsType": schema.BuiltinOptions.FullyConnectedOptions,
        "builtinOptions": schema.FullyConnectedOptionsT(),
    }
    graph.operators = [
        _table(schema.OperatorT, opcodeIndex=0, inputs=[0, 1], outputs=[2]),
        _table(schema.OperatorT, opcodeIndex=1, inputs=[2, 3, -1], outputs=[4 if capped else 5], **product),
    ]
    if capped:
        graph.operators.append(_table(schema.OperatorT, opcodeIndex=2, inputs=[4], outputs=[5]))
    graph.inputs, graph.outputs, model.subgraphs = [0], [5], [graph]
    signature.signatureKey = "serving_default"
    signature.inputs = [_table(schema.TensorMapT, name="x", tensorIndex=0)]
    signature.outputs = [_table(schema.TensorMapT, name="y", tensorIndex=5)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _table(kind: Any, **fields: Any) -> Any:
    made = kind()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _bytes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(values.tobytes(), np.uint8)


FILES = {
    "onnxruntime": ("tiny.onnx", onnx_bytes),
    "onnxruntime-web": ("tiny.onnx", onnx_bytes),
    "executorch": ("tiny.pte", program),
    "litert": ("tiny.tflite", flatbuffer),
}


def plan(
    folder: Path,
    runtimes: tuple[str, ...] = ("onnxruntime",),
    *,
    rounds: int = 2,
    error: float = 0.0,
    other: int = 0,
    bound: float = 1e-4,
    threads: tuple[int, ...] = (1,),
    backends: tuple[str | None, ...] = (None,),
    rules: Mapping[str, float] = MappingProxyType({}),
) -> Plan:
    """A plan on disk, a cell for each runtime, thread count and backend; `error` is added to what is expected, and
    `bound` is the relative deviation from it that passes; a plan of `other` inputs has almost the same answers."""
    (folder / "models/tiny").mkdir(parents=True)
    (folder / "golden").mkdir()
    inputs, expected = examples(other)
    inputs.tofile(folder / "golden/inputs.bin")
    cells = [_cell(folder, bound, *one) for one in itertools.product(runtimes, threads, backends)]
    names = [cell["id"] for cell in cells]
    job = documents.job(
        run_id="20261124T180000Z-android-0011",
        protocol=documents.PROTOCOL | {"rounds": rounds, **rules},
        cells=cells,
        order=[{"cell": name, "round": number} for number in range(rounds) for name in names],
    )
    write_document(folder / "job.json", job)
    return Plan(folder, job, expected={"golden/inputs.bin": expected + np.float32(error)})


def examples(other: int = 0) -> tuple[Values, Values]:
    """Golden inputs, and what they should be answered: [2, 3, 8, 8] and [2, WIDTH]."""
    inputs = np.random.default_rng(8).random((2, *SHAPE[1:]), dtype=np.float32) * np.float32(1 + 1e-6 * other)
    return inputs, (inputs.reshape(2, -1) @ weights()).astype(np.float32)


def right() -> bytes:
    """The answers to the golden inputs of `plan`, as a device sends them."""
    return base64.b64encode(examples()[1].tobytes())


def _cell(folder: Path, bound: float, runtime: str, threads: int, backend: str | None) -> dict[str, Any]:
    name, content = FILES[runtime]
    file = folder / "models/tiny" / name
    file.write_bytes(content())
    inputs = folder / "golden/inputs.bin"
    golden = {"file": "golden/inputs.bin", "sha256": file_sha256(inputs), "dtype": "float32", "shape": (2, *SHAPE[1:])}
    return {
        "id": f"tiny.{runtime}" + (f".{backend}" if backend else "") + (f".t{threads}" if threads > 1 else ""),
        "label": f"tiny, {runtime}",
        "competitor": False,
        "tower": "image",
        "file": file.relative_to(folder).as_posix(),
        "sha256": file_sha256(file),
        "bytes": file.stat().st_size,
        "runtime": runtime,
        "backend": backend,
        "threads": threads,
        "input": {"name": "x", "dtype": "float32", "shape": SHAPE},
        "output": {"name": "y", "dtype": "float32", "shape": (1, WIDTH)},
        "golden": {"inputs": golden},
        "gate": {"metric": "relative", "bound": bound},
    }
