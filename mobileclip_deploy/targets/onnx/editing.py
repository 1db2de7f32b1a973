"""Editing of onnx_ir graphs in place: new constants and nodes replace others in their positions, under free names.

Also writes a model weight by weight; `onnx_ir.save` would keep all weights in memory once or twice more.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mobileclip_deploy.base.files.arrays import Array


def op(
    kind: str, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value], domain: str = "", **attributes: Any
) -> ir.Node:
    """Returns a node without a name."""
    return ir.node(kind, inputs, attributes, domain=domain, outputs=outputs, name="")


def array(value: ir.Value | None) -> Array | None:
    """Returns a constant's elements, read-only (they may be the network's own). None if it is not a constant."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def taken(node: ir.Node, place: int) -> ir.Value:
    """Returns an input that must not be omitted."""
    value = node.inputs[place]
    assert value is not None
    return value


class OnnxEditor:
    """Editor of a model's graph. Nothing is copied: the largest tower has 1.3 GB of weights, shared with the
    network."""

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph = model, model.graph
        computed = (value.name for node in self.graph for value in node.outputs)
        self._taken = {*self.graph.initializers, *computed, *(value.name for value in self.graph.inputs)}

    def value(self, name: str) -> ir.Value:
        """Returns a value for a new node to compute. A number is appended to the name if it is in use."""
        return ir.Value(name=self._free(name))

    def constant(self, name: str, values: Array | ir.TensorProtocol) -> ir.Value:
        """Adds a constant after all others."""
        tensor = ir.tensor(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
        new = ir.Value(name=self._free(name), const_value=tensor)
        self.graph.initializers.add(new)
        return new

    def instead(self, old: ir.Value, name: str, values: Array | ir.TensorProtocol) -> ir.Value:
        """Adds a constant in the position of one whose users are about to be replaced."""
        others = list(self.graph.initializers.values())
        new = self.constant(name, values)
        self.graph.initializers.clear()
        for value in others:
            self.graph.initializers.add(new if value is old else value)
        return new

    def replace(self, node: ir.Node, nodes: Sequence[ir.Node]) -> None:
        """Replaces a node by others; the last one's result gets its name and its users."""
        nodes[-1].outputs[0].doc_string = node.outputs[0].doc_string
        ir.convenience.replace_nodes_and_values(self.graph, node, [node], nodes, node.outputs, nodes[-1].outputs)

    def take_users(self, value: ir.Value, name: str) -> ir.Value:
        """Returns a value that gets another's users and name, and is to be computed from it. The other one is renamed
        to `name`."""
        new = ir.Value(name=value.name, type=value.type, shape=value.shape, doc_string=value.doc_string)
        value.replace_all_uses_with(new, replace_graph_outputs=True)
        value.name = self._free(name)
        return new

    def whole(self, name: str, *numbers: int) -> ir.Value:
        """Adds an int64 constant, [numbers]."""
        return self.constant(name, np.array(numbers, np.int64))

    def drop_unused(self) -> None:
        """Removes nodes and constants without users."""
        RemoveUnusedNodesPass()(self.model)

    def _free(self, name: str) -> str:
        choice, suffix = name, 1
        while choice in self._taken:
            choice, suffix = f"{name}_{suffix}", suffix + 1
        self._taken.add(choice)
        return choice


# Protocol buffers' wire format: a field that holds a message or bytes is its tag, its length and its content.
GRAPH_TAG = 7 << 3 | 2  # ModelProto.graph
INITIALIZER_TAG = 5 << 3 | 2  # GraphProto.initializer
RAW_DATA_TAG = 9 << 3 | 2  # TensorProto.raw_data, after dims, data_type and name


def write_model(model: ir.Model, path: Path) -> None:
    """Writes a model as one file, the weights last, without shapes and types of intermediate values."""
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
        # onnx_ir omits empty texts, but the files have always contained those of the exporter's nodes.
        if item.doc_string is not None:
            proto.doc_string = item.doc_string
    body = frame.graph.SerializeToString(deterministic=True)
    frame.ClearField("graph")
    entries = [_around(value) for value in graph.initializers.values()]
    length = len(body) + sum(len(before) + tensor.nbytes + len(after) for before, tensor, after in entries)
    with path.open("wb") as stream:
        stream.write(frame.SerializeToString(deterministic=True) + _varint(GRAPH_TAG) + _varint(length) + body)
        for before, tensor, after in entries:
            stream.write(before)
            stream.write(tensor.tobytes())
            stream.write(after)


def _around(weight: ir.Value) -> tuple[bytes, ir.TensorProtocol, bytes]:
    """Returns a weight, with the bytes of the file before and after its elements."""
    tensor = weight.const_value
    assert tensor is not None
    described = onnx.TensorProto(name=weight.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    head = described.SerializeToString(deterministic=True) + _varint(RAW_DATA_TAG) + _varint(tensor.nbytes)
    after = b"" if weight.doc_string is None else onnx.TensorProto(doc_string=weight.doc_string).SerializeToString()
    size = len(head) + tensor.nbytes + len(after)
    return _varint(INITIALIZER_TAG) + _varint(size) + head, tensor, after


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
