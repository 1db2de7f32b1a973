"""Matrix products in int8 whose inputs are quantized at run time: nothing to calibrate, and what text towers take."""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.targets.onnx.editing import Graph
from mobileclip_deploy.targets.onnx.weights import Weight, int8_operands

__all__ = ["DynamicProducts"]


class DynamicProducts:
    """Rewrites products with int8 weights; an input that several of them take is quantized once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._quantized: dict[str, tuple[str, str, str]] = {}

    def rewrite(self, weight: Weight) -> list[Any]:
        """The nodes that take the place of a MatMul or Gemm: integers times integers, one scale an output channel.

        ONNX Runtime fuses DynamicQuantizeLinear, MatMulInteger, Cast, Mul and Add into one operator.
        """
        from onnx import TensorProto, helper

        node, graph = weight.node, self._graph
        nodes: list[Any] = []
        source = node.input[0]
        if source not in self._quantized:
            parts = tuple(graph.fresh(f"{source}_{part}") for part in ("uint8", "scale", "zero"))
            nodes.append(helper.make_node("DynamicQuantizeLinear", [source], parts))
            self._quantized[source] = (parts[0], parts[1], parts[2])
        integers, scale, zero = self._quantized[source]
        stored, weight_scale = int8_operands(graph, weight)
        result = node.output[0]
        bias = node.input[2] if len(node.input) > 2 else None
        summed, floats, factors = (graph.fresh(f"{result}_{part}") for part in ("int32", "float", "factors"))
        product = graph.fresh(f"{result}_product") if bias else result
        nodes += [
            helper.make_node("MatMulInteger", [integers, stored, zero], [summed]),
            helper.make_node("Cast", [summed], [floats], to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale, weight_scale], [factors]),
            helper.make_node("Mul", [floats, factors], [product]),
        ]
        if bias:
            nodes.append(helper.make_node("Add", [product, bias], [result]))
        return nodes
