"""1 x 1 convolutions written as matrix products, which have int8 and int4 kernels for inputs measured at run time.

Convolutions have none that are fast: dynamically quantized they become ConvInteger, ten times slower than float32.
"""

from __future__ import annotations

import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import Editor, array, op

__all__ = ["as_products"]

CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def as_products(editor: Editor) -> None:
    """Rewrite every 1 x 1 convolution of one group as transpose, product, sum and transpose.

    What lies between two of them (GELU) is computed with channels last as well, so that nothing is transposed twice.
    """
    last: dict[ir.Value | None, ir.Value] = {}  # a value [N, C, H, W] -> the same as [N, H, W, C]
    for node in list(editor.graph):
        if node.op_type == "Gelu" and node.inputs[0] in last:
            result = node.outputs[0]
            node.replace_input_with(0, last[node.inputs[0]])
            first = editor.take_users(result, f"{result.name}_last")
            editor.graph.insert_after(node, op("Transpose", [result], [first], perm=CHANNELS_FIRST))
            last[first] = result
        elif is_pointwise(node):
            nodes, value = _product(editor, node, last)
            editor.replace(node, nodes)
            last[nodes[-1].outputs[0]] = value
    editor.drop_unused()


def _product(editor: Editor, node: ir.Node, last: dict[ir.Value | None, ir.Value]) -> tuple[list[ir.Node], ir.Value]:
    """The nodes that take a convolution's place, and its result with channels last."""
    (source, weight, *biases), (result,) = node.inputs, node.outputs
    values = array(weight)  # [outputs, inputs, 1, 1]
    assert source is not None
    assert weight is not None
    assert values is not None
    nodes: list[ir.Node] = []
    if source not in last:
        last[source] = editor.value(f"{source.name}_last")
        nodes.append(op("Transpose", [source], [last[source]], perm=CHANNELS_LAST))
    matrix = editor.instead(weight, f"{weight.name}_matrix", values[:, :, 0, 0].T)  # [inputs, outputs]
    value = editor.value(f"{result.name}_last")
    product = editor.value(f"{result.name}_product") if biases else value
    nodes.append(op("MatMul", [last[source], matrix], [product]))
    if biases:
        nodes.append(op("Add", [product, biases[0]], [value]))
    nodes.append(op("Transpose", [value], [ir.Value()], perm=CHANNELS_FIRST))
    return nodes, value


def is_pointwise(node: ir.Node) -> bool:
    """Whether a node is a 1 x 1 convolution of one group, stride 1."""
    if node.op_type != "Conv":
        return False
    weight, attributes = array(node.inputs[1]), node.attributes
    plain = attributes.get_int("group", 1) == 1
    unmoved = all(set(attributes.get_ints(name, ())) <= {value} for name, value in (("strides", 1), ("pads", 0)))
    return weight is not None and weight.shape[2:] == (1, 1) and plain and unmoved
