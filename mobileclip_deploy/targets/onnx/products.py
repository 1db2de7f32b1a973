"""Matrix products of text towers: 1 x 1 convolutions written as such, and products in int8 whose inputs are quantized
at run time, which need no calibration.

Products have int8 and int4 kernels for inputs measured at run time. Convolutions have none that are fast: dynamically
quantized they become ConvInteger, ten times slower than float32.
"""

from __future__ import annotations

import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import Editor, array, op
from mobileclip_deploy.targets.onnx.weights import Weight, int8_operands

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


class DynamicProducts:
    """Rewrites products with int8 weights; an input that several of them take is quantized once."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._quantized: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}

    def rewrite(self, weight: Weight) -> None:
        """Replace a MatMul or Gemm by integers times integers, one scale per output channel.

        ONNX Runtime fuses DynamicQuantizeLinear, MatMulInteger, Cast, Mul and Add into one operator.
        """
        node, editor = weight.node, self._editor
        (source, _, *biases), (result,) = node.inputs, node.outputs
        assert source is not None
        nodes: list[ir.Node] = []
        if source not in self._quantized:
            integers, scale, zero = (editor.value(f"{source.name}_{part}") for part in ("uint8", "scale", "zero"))
            nodes.append(op("DynamicQuantizeLinear", [source], [integers, scale, zero]))
            self._quantized[source] = integers, scale, zero
        integers, scale, zero = self._quantized[source]
        stored, weight_scale = int8_operands(editor, weight)  # [K, N] and [N]
        summed, floats, factors = (editor.value(f"{result.name}_{part}") for part in ("int32", "float", "factors"))
        product = editor.value(f"{result.name}_product") if biases else ir.Value()
        nodes += [
            op("MatMulInteger", [integers, stored, zero], [summed]),
            op("Cast", [summed], [floats], to=ir.DataType.FLOAT.value),
            op("Mul", [scale, weight_scale], [factors]),
            op("Mul", [floats, factors], [product]),
        ]
        if biases:
            nodes.append(op("Add", [product, biases[0]], [ir.Value()]))
        editor.replace(node, nodes)
