"""A float32 graph in float16: as one that was traced in float16, with the float32 graph's names."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import Editor, array, op

__all__ = ["halve"]

# What a norm is made of. torch computes norms of float16 in float32: squares and their sums leave float16's range.
WIDE = ("Abs", "ReduceMax", "ReduceSum")


def halve(model: ir.Model) -> None:
    """Every float32 becomes float16, but inputs and outputs, which are cast: clients give and take float32.

    Args:
        model: in float32, which is changed. Attributes that are plain numbers, such as a norm's epsilon, stay as they
            are: they are float32 whatever the type of a node's inputs.
    """
    editor = Editor(model)
    graph = model.graph
    for value in graph.initializers.values():
        numbers = array(value)
        if numbers is not None and numbers.dtype == np.float32:
            value.const_value = ir.tensor(numbers.astype(np.float16), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT16)
    for node in graph:
        for name, attribute in node.attributes.items():
            if node.op_type == "Cast" and name == "to" and attribute.as_int() == ir.DataType.FLOAT:
                node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT16)
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.FLOAT:
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.as_tensor().numpy().astype(np.float16)))
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)
    for source in graph.inputs:
        users = [use.node for use in source.uses() if use.node.op_type != "Shape"]
        if source.dtype == ir.DataType.FLOAT and users:
            half = editor.value(f"{source.name}_half")
            for user in users:
                _take_instead(user, source, half)
            first = next(node for node in graph if node in users)
            graph.insert_before(first, op("Cast", [source], [half], to=ir.DataType.FLOAT16))
    for node in [node for node in graph if node.op_type in WIDE]:
        _widen(editor, node)
    for result in list(graph.outputs):
        if result.dtype == ir.DataType.FLOAT16:
            whole = editor.take_users(result, f"{result.name}_half")
            whole.type = ir.TensorType(ir.DataType.FLOAT)
            graph.append(op("Cast", [result], [whole], to=ir.DataType.FLOAT))


def _widen(editor: Editor, node: ir.Node) -> None:
    """Have a node compute in float32."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    wide = editor.value(f"{source.name}_wide")
    _take_instead(node, source, wide)
    editor.graph.insert_before(node, op("Cast", [source], [wide], to=ir.DataType.FLOAT))
    narrow = editor.take_users(result, f"{result.name}_wide")
    result.type = ir.TensorType(ir.DataType.FLOAT)
    editor.graph.insert_after(node, op("Cast", [result], [narrow], to=ir.DataType.FLOAT16))


def _take_instead(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for place, value in enumerate(node.inputs):
        if value is old:
            node.replace_input_with(place, new)
