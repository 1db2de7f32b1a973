"""Weights of dynamically quantized ONNX files: their dequantized elements and steps."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.grids.decode import Affine
from mobileclip_deploy.targets.onnx.quantized import PRODUCTS


def dynamic_weights(model: onnx.ModelProto) -> dict[str, Array]:
    """Returns the integer weights of products and tables by name, dequantized and with their steps: float32 [2, ...].

    As ONNX Runtime's `quantize_dynamic` writes them: it casts an integer product to float, and multiplies it by the
    input's scale times the weight's.

    Raises:
        NotRun: a product of integers is scaled in another way.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    scales = dict(filter(None, (_scaled(node, makers, stored) for node in model.graph.node)))
    weights: dict[str, Array] = {}
    for node in model.graph.node:
        if node.op_type in PRODUCTS:
            grid = [scales.get(node.output[0], ""), *node.input[3:]]
            weights[node.input[1]] = _dequantized(stored, node.input[1], *grid)
        elif node.op_type == "DequantizeLinear" and (table := _looked_up(node, makers)) in stored:
            weights[table] = _dequantized(stored, table, *node.input[1:])
    return weights


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
    integers, steps = (numpy_helper.to_array(stored[name]) for name in (weight, scale))
    zero = numpy_helper.to_array(stored[point]) if point in stored else 0
    return np.stack((Affine(steps, 8, zero).restored(integers), np.broadcast_to(steps, integers.shape)))
