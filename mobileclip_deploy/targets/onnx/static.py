"""Convolutions and matrix products in int8 with ranges measured beforehand: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.targets.grids.encode import int8_channels
from mobileclip_deploy.targets.onnx.editing import Editor, array, op
from mobileclip_deploy.targets.onnx.weights import Weight
from mobileclip_deploy.targets.ranges import Range

__all__ = ["quantize_static", "surroundings"]

SIXTEEN_BITS = 21  # the first version of the operators in which QuantizeLinear has uint16; of ours no other changed


def surroundings(weight: Weight) -> tuple[str, str]:
    """The values before and behind a node that are rounded when it runs in int8: its input, and its output, or that of
    the addition of a bias that is all that takes it."""
    source, result = weight.node.inputs[0], weight.node.outputs[0]
    assert source is not None
    if (added := _bias(weight)) is not None:
        result = added.outputs[0]
    return str(source.name), str(result.name)


def quantize_static(model: ir.Model, chosen: Collection[Weight], ranges: Mapping[str, Range]) -> None:
    """Have these nodes run in int8: weights with one scale per output channel, inputs and outputs with one per tensor.

    A value is rounded once for all that take it in int8; what takes a convolution's result in float takes the rounded
    one, because ONNX Runtime runs the int8 kernel only where its output is nothing but rounded.

    Args:
        ranges: of the values that `surroundings` names.
    """
    editor = Editor(model)
    if any(known.zero_point.dtype == np.uint16 for known in ranges.values()):
        model.graph.opset_imports[""] = max(model.graph.opset_imports[""], SIXTEEN_BITS)
    by_node = {weight.node: weight for weight in chosen}
    results = {surroundings(weight)[1] for weight in chosen}
    rounded: dict[str, ir.Value] = {}
    for node in list(editor.graph):
        if (weight := by_node.get(node)) is not None:
            (source, *_), name = node.inputs, surroundings(weight)[0]
            assert source is not None
            if name not in results and name not in rounded:
                rounded[name] = editor.value(f"{name}_rounded")
                editor.graph.insert_before(node, _rounding(editor, source, rounded[name], name, ranges[name]))
            node.replace_input_with(0, rounded.get(name, source))
            editor.graph.insert_before(node, _int8(editor, weight, ranges[name]))
        for exact in node.outputs:
            if (name := str(exact.name)) in results:
                taken = editor.take_users(exact, f"{name}_exact")
                editor.graph.insert_after(node, _rounding(editor, exact, taken, name, ranges[name]))
    editor.drop_unused()


def _rounding(editor: Editor, exact: ir.Value, rounded: ir.Value, name: str, known: Range) -> list[ir.Node]:
    """The nodes that compute a value rounded to integers from the exact one; `name` is what they are called after."""
    scale = editor.constant(f"{name}_scale", np.asarray(known.scale))
    zero = editor.constant(f"{name}_zero", np.asarray(known.zero_point))
    integers = editor.value(f"{name}_{known.zero_point.dtype}")
    return [
        op("QuantizeLinear", [exact, scale, zero], [integers]),
        op("DequantizeLinear", [integers, scale, zero], [rounded]),
    ]


def _bias(weight: Weight) -> ir.Node | None:
    """The addition of a constant that alone takes a product."""
    result = weight.node.outputs[0]
    users = result.consumers()
    if weight.node.op_type != "MatMul" or len(users) != 1 or users[0].op_type != "Add":
        return None
    others = [value for value in users[0].inputs if value is not result]
    return users[0] if others and array(others[0]) is not None else None


def _int8(editor: Editor, weight: Weight, source: Range) -> list[ir.Node]:
    """The nodes that restore a weight and its bias from integers; the weight's node takes what they compute."""
    node, name = weight.node, weight.name
    integers, scales = int8_channels(weight.values, weight.channels)
    stored = editor.instead(weight.value, f"{name}_int8", integers)
    scale = editor.constant(f"{name}_scale", scales.reshape(-1))
    zero = editor.constant(f"{name}_zero", np.zeros(scales.size, np.int8))
    restored = editor.value(f"{name}_float")
    node.replace_input_with(1, restored)
    nodes = [op("DequantizeLinear", [stored, scale, zero], [restored], axis=weight.channels)]
    if len(node.inputs) > 2 and node.op_type in ("Conv", "Gemm"):
        bias = node.inputs[2]
        values = array(bias)
        assert bias is not None
        assert values is not None
        steps = scales.reshape(-1) * source.scale  # [outputs]: the sums of int8 products count in these
        sums = editor.constant(f"{bias.name}_int32", np.rint(values / steps).astype(np.int32))
        step = editor.constant(f"{bias.name}_scale", steps.astype(np.float32))
        none = editor.constant(f"{bias.name}_zero", np.zeros(values.size, np.int32))
        floats = editor.value(f"{bias.name}_float")
        node.replace_input_with(2, floats)
        nodes.append(op("DequantizeLinear", [sums, step, none], [floats], axis=0))
    return nodes
