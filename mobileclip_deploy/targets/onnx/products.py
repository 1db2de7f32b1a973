"""1 x 1 convolutions written as matrix products, which have int8 and int4 kernels for inputs measured at run time.

Convolutions have none that are fast: dynamically quantized they become ConvInteger, ten times slower than float32.
"""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.targets.onnx.editing import Graph

__all__ = ["as_products"]

CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def as_products(graph: Graph) -> None:
    """Rewrite every 1 x 1 convolution of one group as transpose, product, sum and transpose.

    What lies between two of them (GELU) is computed with channels last as well, so that nothing is transposed twice.
    """
    from onnx import helper

    last: dict[str, str] = {}  # a value with channels first -> the same with channels last

    def with_channels_last(name: str, nodes: list[Any]) -> str:
        if name not in last:
            last[name] = graph.fresh(f"{name}_last")
            nodes.append(helper.make_node("Transpose", [name], [last[name]], perm=CHANNELS_LAST))
        return last[name]

    def change(node: Any) -> list[Any] | None:
        if node.op_type == "Gelu" and node.input[0] in last:
            nodes: list[Any] = []
            value = last[node.output[0]] = graph.fresh(f"{node.output[0]}_last")
            nodes.append(type(node).FromString(node.SerializeToString()))
            nodes[0].input[0], nodes[0].output[0] = last[node.input[0]], value
        elif is_pointwise(graph, node):
            nodes = []
            source, name = with_channels_last(node.input[0], nodes), node.input[1]
            weight = graph.replace(name, f"{name}_matrix", graph.value(name)[:, :, 0, 0].T)
            value = last[node.output[0]] = graph.fresh(f"{node.output[0]}_last")
            product = graph.fresh(f"{node.output[0]}_product") if len(node.input) > 2 else value
            nodes.append(helper.make_node("MatMul", [source, weight], [product]))
            if len(node.input) > 2:
                nodes.append(helper.make_node("Add", [product, node.input[2]], [value]))
        else:
            return None
        nodes.append(helper.make_node("Transpose", [value], list(node.output), perm=CHANNELS_FIRST))
        return nodes

    graph.rewrite(change)


def is_pointwise(graph: Graph, node: Any) -> bool:
    """Whether a node is a 1 x 1 convolution of one group, stride 1."""
    if node.op_type != "Conv":
        return False
    shape = graph.shape(node.input[1])
    attributes = {attribute.name: attribute for attribute in node.attribute}
    plain = "group" not in attributes or attributes["group"].i == 1
    unmoved = all(
        set(attributes[name].ints) <= {value} for name, value in (("strides", 1), ("pads", 0)) if name in attributes
    )
    return shape is not None and shape[2:] == (1, 1) and plain and unmoved
