"""A file with the numbers that stand in it, computed in float32: no float16 in between, no rounding of activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact

__all__ = ["plain_model"]

ONE = "plain_one"


def plain_model(artifact: OnnxArtifact) -> onnx.ModelProto:
    """The model with every float16 raised to float32, and inputs of products and convolutions left as they are.

    Weights stay as they are stored, and so do biases: where they are integers they are restored.

    Raises:
        InvalidInput: the file is damaged.
    """
    model, path = artifact.copied(), artifact.path
    graph = model.graph
    for tensor in graph.initializer:
        _raise(tensor, path)
    rounded: set[str] = set()  # what has been left as it is instead of being rounded to uint8
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _raise(attribute.t, path)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            rounded.add(node.output[0])
            nodes.append(helper.make_node("Identity", node.input[:1], node.output[:1]))
            if node.op_type == "DynamicQuantizeLinear":  # its scale is a factor of the product
                nodes.append(helper.make_node("Identity", [ONE], node.output[1:2]))
        elif node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            nodes.append(helper.make_node("Identity", node.input[:1], node.output))
        elif node.op_type == "MatMulInteger" and node.input[0] in rounded:
            floats = f"{node.output[0]}_plain"
            nodes.append(helper.make_node("Cast", node.input[1:2], [floats], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("MatMul", [node.input[0], floats], node.output))
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), ONE))
    return model


def _raise(tensor: onnx.TensorProto, path: Path) -> None:
    if tensor.data_type != TensorProto.FLOAT16:
        return
    try:
        values = numpy_helper.to_array(tensor).astype(np.float32)
    except ValueError as error:
        raise InvalidInput(f"{path}: the numbers of {tensor.name} cannot be read: {error}") from error
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
