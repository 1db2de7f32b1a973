"""Writing an ONNX model weight by weight: `onnx_ir.save` would hold all of them once or twice more."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

# Protocol buffers' wire format: a field that holds a message or bytes is its tag, its length and its content.
GRAPH_TAG = 7 << 3 | 2  # ModelProto.graph
INITIALIZER_TAG = 5 << 3 | 2  # GraphProto.initializer
RAW_DATA_TAG = 9 << 3 | 2  # TensorProto.raw_data, behind dims, data_type and name


def write_model(model: ir.Model, path: Path) -> None:
    """Write a model as one file, the weights last, without shapes and types of what lies between inputs and outputs.

    Raises:
        OSError: the file cannot be written.
    """
    graph = model.graph
    view = ir.GraphView(
        graph.inputs, graph.outputs, nodes=graph, name=graph.name, opset_imports=dict(graph.opset_imports)
    )
    frame = ir.to_proto(
        ir.Model(
            view,  # type: ignore[arg-type]  # as GraphView's documentation has it
            ir_version=model.ir_version,
            producer_name=model.producer_name,
            producer_version=model.producer_version,
            functions=list(model.functions.values()),
        )
    )
    onnx.helper.set_model_props(frame, model.metadata_props)  # in the order given; onnx_ir would sort them
    del frame.graph.value_info[:]
    written = (frame, frame.graph, *frame.graph.node, *frame.graph.input, *frame.graph.output)
    for proto, item in zip(written, (model, graph, *graph, *graph.inputs, *graph.outputs), strict=True):
        # onnx_ir leaves out texts that are empty; those of the exporter's nodes have always been in the files.
        if item.doc_string is not None:
            proto.doc_string = item.doc_string
    body = frame.graph.SerializeToString(deterministic=True)
    frame.ClearField("graph")
    entries = [_around(value) for value in graph.initializers.values()]
    length = len(body) + sum(len(before) + tensor.nbytes + len(behind) for before, tensor, behind in entries)
    with path.open("wb") as stream:
        stream.write(frame.SerializeToString(deterministic=True) + _varint(GRAPH_TAG) + _varint(length) + body)
        for before, tensor, behind in entries:
            stream.write(before)
            stream.write(tensor.tobytes())
            stream.write(behind)


def _around(weight: ir.Value) -> tuple[bytes, ir.TensorProtocol, bytes]:
    """A weight, with what stands in the file before its numbers and behind them."""
    tensor = weight.const_value
    assert tensor is not None
    described = onnx.TensorProto(name=weight.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    head = described.SerializeToString(deterministic=True) + _varint(RAW_DATA_TAG) + _varint(tensor.nbytes)
    behind = b"" if weight.doc_string is None else onnx.TensorProto(doc_string=weight.doc_string).SerializeToString()
    size = len(head) + tensor.nbytes + len(behind)
    return _varint(INITIALIZER_TAG) + _varint(size) + head, tensor, behind


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
