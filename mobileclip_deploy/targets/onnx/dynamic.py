"""Grids of the integer weights of other tools' ONNX files: scales and zero points by the weight's name."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.grids.decode import spread
from mobileclip_deploy.targets.onnx.quantized import PRODUCTS

GRIDS = {
    "DequantizeLinear": ((0, 1, 2, 1),),
    "QLinearMatMul": ((3, 4, 5, -1),),
    "QLinearConv": ((3, 4, 5, 0),),
    "QLinearAdd": ((0, 1, 2, -1), (3, 4, 5, -1)),
    "QGemm": ((3, 4, 5, -1),),
    "DynamicQuantizeMatMul": ((1, 2, 3, -1),),
    "MatMulIntegerToFloat": ((1, 3, 5, -1),),
}
"""Operator -> indices of each weight, the weight's scale and zero point, and the axis of several scales."""
Grid = tuple[Array, Array]


def weight_grids(model: onnx.ModelProto) -> dict[str, Grid]:
    """Returns scale and zero point of each integer weight by name, without those that are scaled in an unknown way."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    scales = dict(filter(None, (_scaled(node, makers, stored) for node in model.graph.node)))
    grids: dict[str, Grid] = {}
    for node in model.graph.node:
        names = [*node.input, *[""] * 6]
        settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        places = GRIDS.get(node.op_type, ())
        if node.op_type in PRODUCTS:
            places = ((1, len(names), 3, 0 if node.op_type == "ConvInteger" else -1),)
            names.append(scales.get(node.output[0], ""))
        for place, scale, point, along in places:
            axis = 0 if settings.get("transB") else settings.get("axis", along)
            maker, weight = makers.get(names[place]), names[place]
            if maker is not None and maker.op_type == "Gather":  # rows of a table
                weight = maker.input[0]
            if weight in stored and names[scale] in stored:
                steps = numpy_helper.to_array(stored[names[scale]]).astype(np.float32)
                zero = numpy_helper.to_array(stored[names[point]]) if names[point] in stored else np.zeros_like(steps)
                grid = _grid(stored[weight], steps, zero.astype(np.float32), axis, settings.get("block_size"))
                grids |= {} if grid is None else {weight: grid}
    return grids


def require_grids(model: onnx.ModelProto) -> None:
    """Refuses a model with a product whose integers are scaled in another way than `quantize_dynamic` writes: cast to
    float, and multiplied by the input's scale times the weight's.

    Raises:
        NotRun: it has one.
    """
    grids = weight_grids(model)
    for weight in (node.input[1] for node in model.graph.node if node.op_type in PRODUCTS):
        if weight not in grids:
            raise NotRun(f"the integers {weight[:60]} are scaled in an unknown way")


def _scaled(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], stored: dict[str, onnx.TensorProto]
) -> tuple[str, str] | None:
    """Returns the integer product that a multiplication scales, and the scale of the weight in it. None for others."""
    made = {makers[name].op_type: makers[name] for name in node.input if name in makers}
    if node.op_type != "Mul" or made.keys() != {"Cast", "Mul"}:
        return None
    return made["Cast"].input[0], next((name for name in made["Mul"].input if name in stored), "")


def _grid(tensor: onnx.TensorProto, scale: Array, zero: Array, axis: int, block: int | None) -> Grid | None:
    """Returns the grid of a tensor: of one scale, one for each index of an axis, or one for each block of it."""
    shape = tuple(tensor.dims)
    if scale.size == 1:
        return scale.reshape(()), zero.reshape(())
    if shape and scale.shape == (shape[axis],):
        along = [-1 if index == axis % len(shape) else 1 for index in range(len(shape))]
        return scale.reshape(along), zero.reshape(along if zero.size > 1 else ())
    return (spread(scale, shape, block), spread(zero, shape, block)) if block and scale.ndim == len(shape) else None
