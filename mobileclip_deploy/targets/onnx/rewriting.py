"""A float32 graph rewritten, whatever its weights become: doubling convolutions taken apart, and float16 throughout."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import Editor, array, op

LAST = np.iinfo(np.int64).max


def split_doubling(model: ir.Model) -> int:
    """Rewrite grouped convolutions that make several channels of each one, as so many depthwise convolutions: the same
    numbers, in place; says how many there were.

    MobileCLIP's image towers double their channels so: three windows of 7 x 7 with stride 2, and one of 3 x 3 at the
    end. ONNX Runtime has a blocked kernel for depthwise convolutions, one output per group, and takes those with two by
    a general one, three times as long for the same arithmetic. The weight stays in the file as it was; every other
    output of it is cut out in front of each convolution, which a session does once, when it starts."""
    editor = Editor(model)
    found = [(node, count) for node in editor.graph if (count := splits(node)) > 1]
    for node, count in found:
        editor.replace(node, _apart(editor, node, count))
    return len(found)


def splits(node: ir.Node) -> int:
    """How many depthwise convolutions a node is as good as; 0 where it is none of several outputs a group."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    if weight is None:
        return 0
    shape = weight.shape if weight.const_value is None else weight.const_value.shape
    if shape is None:
        return 0
    outputs, inputs = (int(size) for size in shape.numpy()[:2])
    groups = node.attributes.get_int("group", 1)
    return outputs // groups if inputs == 1 and groups > 1 else 0


def _apart(editor: Editor, node: ir.Node, count: int) -> list[ir.Node]:
    """The nodes in a convolution's place: [N, C, H, W] -> [N, count * C, H', W'], in the order of its outputs."""
    source, *constants = node.inputs
    (result,) = node.outputs
    name = result.name
    assert result.shape is not None
    channels, *sides = (size for size in result.shape[1:] if isinstance(size, int))
    nodes: list[ir.Node] = []

    def whole(part: str, *numbers: int) -> ir.Value:
        return editor.constant(f"{name}_{part}", np.array(numbers, np.int64))

    axis, third, step, end = whole("axis", 0), whole("third", 2), whole("step", count), whole("end", LAST)
    apart = []
    for number in range(count):
        start = whole(f"start_{number}", number)
        cut = []
        for constant in constants:
            assert constant is not None  # a bias that is left out is no input
            cut.append(editor.value(f"{constant.name}_{number}"))
            nodes.append(op("Slice", [constant, start, end, axis, step], [cut[-1]]))
        made, spread = editor.value(f"{name}_{number}"), editor.value(f"{name}_{number}_spread")
        convolution = op("Conv", [source, *cut], [made])
        convolution.attributes.update(node.attributes)
        nodes += [convolution, op("Unsqueeze", [made, third], [spread])]  # [N, C, 1, H', W']
        apart.append(spread)
    together = editor.value(f"{name}_together")  # [N, C, count, H', W']
    nodes.append(op("Concat", apart, [together], axis=2))
    shape = whole("shape", 0, channels, *sides)
    nodes.append(op("Reshape", [together, shape], [ir.Value()]))
    return nodes


# What a norm is made of. torch computes norms of float16 in float32: squares and their sums leave float16's range.
WIDE = ("Abs", "ReduceMax", "ReduceSum")


def halve(model: ir.Model) -> None:
    """Every float32 becomes float16, as in a graph that was traced in float16, but for inputs and outputs, which are
    cast: clients give and take float32.

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
