"""Matrix products in int8 whose inputs are quantized at run time: nothing to calibrate, and what text towers take."""

from __future__ import annotations

import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import Editor, op
from mobileclip_deploy.targets.onnx.weights import Weight, int8_operands

__all__ = ["DynamicProducts"]


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
