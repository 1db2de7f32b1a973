"""Convolutions and matrix products in int8 with ranges measured beforehand: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobileclip_deploy.targets.integers import int8_channels
from mobileclip_deploy.targets.onnx.editing import Graph
from mobileclip_deploy.targets.onnx.weights import Weight
from mobileclip_deploy.targets.ranges import Range

__all__ = ["quantize_static", "surroundings"]


def surroundings(graph: Graph, weight: Weight) -> tuple[str, str]:
    """The values before and behind a node that are rounded when it runs in int8: its input, and its output, or that of
    the addition of a bias that is all that takes it."""
    result = str(weight.node.output[0])
    if (added := _bias(graph, weight)) is not None:
        result = str(added.output[0])
    return str(weight.node.input[0]), result


def quantize_static(graph: Graph, chosen: list[Weight], ranges: dict[str, Range]) -> None:
    """Have these nodes run in int8: weights with a scale an output channel, inputs and outputs with one scale each.

    A value is rounded once for all that take it in int8; what takes a convolution's result in float takes the rounded
    one, because ONNX Runtime runs the int8 kernel only where its output is nothing but rounded.

    Args:
        ranges: of the values that `surroundings` names.
    """
    from onnx import helper

    by_output = {weight.node.output[0]: weight for weight in chosen}
    results = {surroundings(graph, weight)[1] for weight in chosen}
    rounded: dict[str, str] = {}

    def rounding(name: str, source: str, result: str) -> list[Any]:
        known = ranges[name]
        scale = graph.add(f"{name}_scale", np.asarray(known.scale))
        zero = graph.add(f"{name}_zero", np.asarray(known.zero_point))
        integers = graph.fresh(f"{name}_uint8")
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [integers]),
            helper.make_node("DequantizeLinear", [integers, scale, zero], [result]),
        ]

    def change(node: Any) -> list[Any] | None:
        weight = by_output.get(node.output[0])
        nodes: list[Any] = []
        if weight is not None:
            source = node.input[0]
            if source not in results and source not in rounded:
                rounded[source] = graph.fresh(f"{source}_rounded")
                nodes += rounding(source, source, rounded[source])
            nodes += _int8(graph, weight, rounded.get(source, source), ranges[source])
        own = [name for name in node.output if name in results]
        if weight is None and not own:
            return None
        if weight is None:
            nodes.append(type(node).FromString(node.SerializeToString()))
        for name in own:
            exact = graph.fresh(f"{name}_exact")
            nodes[-1].output[list(nodes[-1].output).index(name)] = exact
            nodes += rounding(name, exact, name)
        return nodes

    graph.rewrite(change)


def _bias(graph: Graph, weight: Weight) -> Any | None:
    """The addition of a constant that alone takes a product."""
    users = graph.users(weight.node.output[0])
    if weight.node.op_type != "MatMul" or len(users) != 1 or users[0].op_type != "Add":
        return None
    other = [name for name in users[0].input if name != weight.node.output[0]]
    return users[0] if other and graph.shape(other[0]) is not None else None


def _int8(graph: Graph, weight: Weight, source: str, range_: Range) -> list[Any]:
    """The node with its weight and bias restored from integers in front of it."""
    from onnx import helper

    node = type(weight.node).FromString(weight.node.SerializeToString())
    integers, scales = int8_channels(graph.value(weight.name), weight.channels)
    stored = graph.replace(weight.name, f"{weight.name}_int8", integers)
    scale = graph.add(f"{weight.name}_scale", scales.reshape(-1))
    zero = graph.add(f"{weight.name}_zero", np.zeros(scales.size, np.int8))
    restored = graph.fresh(f"{weight.name}_float")
    node.input[0], node.input[1] = source, restored
    nodes = [helper.make_node("DequantizeLinear", [stored, scale, zero], [restored], axis=weight.channels)]
    if len(node.input) > 2 and node.op_type in ("Conv", "Gemm"):
        bias = node.input[2]
        steps = scales.reshape(-1) * range_.scale
        values = np.rint(graph.value(bias) / steps).astype(np.int32)
        integers_name = graph.add(f"{bias}_int32", values)
        step = graph.add(f"{bias}_scale", steps.astype(np.float32))
        none = graph.add(f"{bias}_zero", np.zeros(values.size, np.int32))
        node.input[2] = graph.fresh(f"{bias}_float")
        nodes.append(helper.make_node("DequantizeLinear", [integers_name, step, none], [node.input[2]], axis=0))
    return [*nodes, node]
