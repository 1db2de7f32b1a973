"""Grouped convolutions that make several channels of each one, as so many depthwise convolutions: the same numbers.

MobileCLIP's image towers double their channels so: three windows of 7 x 7 with stride 2, and one of 3 x 3 at the end.
ONNX Runtime has a blocked kernel for depthwise convolutions, one output a group, and takes those with two by a general
one, three times as long for the same arithmetic. The weight stays in the file as it was; every other output of it is
cut out in front of each convolution, which a session does once, when it starts.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.targets.onnx.editing import Editor, op

__all__ = ["split_doubling", "splits"]

LAST = np.iinfo(np.int64).max


def split_doubling(model: ir.Model) -> int:
    """Rewrite every such convolution, in place; says how many there were."""
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
