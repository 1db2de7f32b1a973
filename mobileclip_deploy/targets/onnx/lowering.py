"""Rewriting of a graph for readers of an older opset: newer operators become the older ones that compute the same.

ONNX Runtime fuses them back into its own GELU and LayerNormalization when a session starts.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import OnnxEditor, array, op, taken


def lower(model: ir.Model, opset: int) -> None:
    """Rewrites a model of opset 20 for a lower one, in place. Results are the same, but for the order of sums."""
    editor = OnnxEditor(model)
    for node in list(editor.graph):
        if node.op_type == "Split" and opset < EQUAL_PARTS:
            node.attributes.pop("num_outputs", None)  # without it, parts are equal
        newest, rewrite = REWRITES.get(node.op_type, (0, None))
        if rewrite is not None and opset < newest and not node.domain:
            editor.replace(node, rewrite(editor, node))
    editor.drop_unused()
    model.graph.opset_imports[""] = opset
    model.ir_version = onnx.helper.find_min_ir_version_for(
        [onnx.helper.make_opsetid(domain, version) for domain, version in model.graph.opset_imports.items()], True
    )


EQUAL_PARTS = 18
"""First opset whose Split needs the number of equal parts."""


class _Steps:
    """Nodes that replace one, computed in float32 if that one's input is float16."""

    def __init__(self, editor: OnnxEditor, node: ir.Node) -> None:
        self.nodes: list[ir.Node] = []
        self._editor, self._name = editor, str(node.outputs[0].name)
        self.half = taken(node, 0).dtype == ir.DataType.FLOAT16

    def add(self, kind: str, *inputs: ir.Value, **attributes: int | Sequence[int]) -> ir.Value:
        result = self._editor.value(f"{self._name}_{kind.lower()}")
        self.nodes.append(op(kind, inputs, [result], "", **attributes))
        return result

    def number(self, value: float) -> ir.Value:
        return self._editor.constant(f"{self._name}_number", np.array(value, np.float32))

    def float32(self, value: ir.Value) -> ir.Value:
        return self.add("Cast", value, to=ir.DataType.FLOAT.value) if self.half else value

    def done(self) -> list[ir.Node]:
        """Returns the nodes; the last one computes the result in the replaced node's type."""
        if self.half:
            self.add("Cast", self.nodes[-1].outputs[0], to=ir.DataType.FLOAT16.value)
        self.nodes[-1].outputs[0].dtype = ir.DataType.FLOAT16 if self.half else ir.DataType.FLOAT
        return self.nodes


def _gelu(editor: OnnxEditor, node: ir.Node) -> list[ir.Node]:
    steps = _Steps(editor, node)
    source = steps.float32(taken(node, 0))
    error = steps.add("Erf", steps.add("Div", source, steps.number(math.sqrt(2))))
    steps.add("Mul", steps.add("Mul", source, steps.add("Add", error, steps.number(1))), steps.number(0.5))
    return steps.done()


def _norm(editor: OnnxEditor, node: ir.Node) -> list[ir.Node]:
    steps, last = _Steps(editor, node), [node.attributes.get_int("axis", -1)]
    source, *factors = (steps.float32(value) for value in node.inputs if value is not None)
    centred = steps.add("Sub", source, steps.add("ReduceMean", source, axes=last, keepdims=1))
    variance = steps.add("ReduceMean", steps.add("Pow", centred, steps.number(2)), axes=last, keepdims=1)
    epsilon = steps.number(node.attributes.get_float("epsilon", 1e-5))
    result = steps.add("Div", centred, steps.add("Sqrt", steps.add("Add", variance, epsilon)))
    for kind, value in zip(("Mul", "Add"), factors, strict=False):
        result = steps.add(kind, result, value)
    return steps.done()


def _reduction(editor: OnnxEditor, node: ir.Node) -> list[ir.Node]:
    axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
    settings = {"keepdims": node.attributes.get_int("keepdims", 1)}
    chosen = {} if axes is None else {"axes": axes.tolist()}
    return [op(node.op_type, [node.inputs[0]], [ir.Value(type=node.outputs[0].type)], "", **settings, **chosen)]


Rewrite = Callable[[OnnxEditor, ir.Node], list[ir.Node]]
REWRITES: dict[str, tuple[int, Rewrite]] = {
    "Gelu": (20, _gelu),
    "LayerNormalization": (17, _norm),
    **{f"Reduce{kind}": (18, _reduction) for kind in ("L1", "L2", "Max", "Mean", "Min", "Prod", "SumSquare")},
}
"""By operator: the opset in which it is new, or in its present form, and the nodes for older ones."""
