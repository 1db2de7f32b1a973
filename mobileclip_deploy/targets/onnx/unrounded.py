"""Dynamically quantized ONNX graphs without the rounding of activations, for a comparison as sharp as in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import NotRun

FLOAT_OPERATOR = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
DYNAMIC = "DynamicQuantizeLinear"
"""Operator that quantizes an activation by its own range."""


def unrounded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Returns a copy of a model that multiplies in float32 what the model rounds to integers, and its dequantized
    weights and their steps by name: float32 [2, ...].

    ONNX Runtime's `quantize_dynamic` casts an integer product to float and multiplies it by the input's scale times the
    weight's. In the copy the input is not rounded, its scale is 1, and the weight is multiplied by its own scale.

    Raises:
        NotRun: a product of integers is scaled in another way.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    scales = dict(filter(None, (_scaled(node, makers, stored) for node in graph.node)))
    ones: dict[str, Array] = {}
    weights: dict[str, Array] = {}
    for node in graph.node:
        if node.op_type == DYNAMIC:
            ones[node.output[1]] = np.array(1, np.float32)
            node.op_type = "Identity"
            del node.output[1:]
        elif node.op_type in FLOAT_OPERATOR:
            weight, points, scale = node.input[1], node.input[3:], scales.get(node.output[0], "")
            weights[weight] = _dequantized(stored, weight, scale, *points)
            ones[scale] = np.ones_like(numpy_helper.to_array(stored[scale]))
            node.op_type = FLOAT_OPERATOR[node.op_type]
            del node.input[2:]
        elif node.op_type == "DequantizeLinear" and (table := _looked_up(node, makers)) in stored:
            weights[table] = _dequantized(stored, table, *node.input[1:])
            node.op_type = "Identity"
            del node.input[1:]
    floats = ones | {name: both[0] for name, both in weights.items()}
    others = [tensor for name, tensor in stored.items() if name not in floats]
    del graph.initializer[:]
    graph.initializer.extend([*others, *(numpy_helper.from_array(value, name) for name, value in floats.items())])
    del graph.value_info[:]  # of integers
    return model, weights


def _scaled(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], stored: dict[str, onnx.TensorProto]
) -> tuple[str, str] | None:
    """Returns the integer product that a multiplication scales, and the scale of the weight in it. None for others."""
    made = {makers[name].op_type: makers[name] for name in node.input if name in makers}
    if node.op_type != "Mul" or made.keys() != {"Cast", "Mul"}:
        return None
    return made["Cast"].input[0], next((name for name in made["Mul"].input if name in stored), "")


def _looked_up(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> str:
    """Returns the table whose rows a node dequantizes, or else its input."""
    name = node.input[0]
    maker = makers.get(name)
    return maker.input[0] if maker is not None and maker.op_type == "Gather" else name


def _dequantized(stored: dict[str, onnx.TensorProto], weight: str, scale: str, point: str = "") -> Array:
    """Returns a weight and its steps: per tensor, or of a matrix also per column.

    Raises:
        NotRun: they are not in the file, or in another form.
    """
    sizes = [(), (1,), tuple(stored[weight].dims[-1:])] if weight in stored and scale in stored else []
    if not sizes or tuple(stored[scale].dims) not in sizes[: 3 if len(stored[weight].dims) == 2 else 2]:
        raise NotRun(f"the integers {weight[:60]} are scaled in an unknown way")
    values, steps = (numpy_helper.to_array(stored[name]) for name in (weight, scale))
    zero = numpy_helper.to_array(stored[point]).astype(np.int32) if point in stored else np.int32(0)
    values = ((values.astype(np.int32) - zero) * steps).astype(np.float32)
    return np.stack((values, np.broadcast_to(steps, values.shape)))
