"""Pictures as bytes into an ONNX image tower: resized, cropped and scaled inside of the graph, as Pillow does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.model.variants import Preprocess
from mobileclip_deploy.targets.onnx.editing import Editor, op

__all__ = ["take_pictures"]

MODES: dict[str, dict[str, Any]] = {"bilinear": {"mode": "linear"}, "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5}}
CHANNELS = 3


def take_pictures(model: ir.Model, spec: Preprocess) -> None:
    """Put in front of a tower what makes its pixels of one picture of any size: uint8 [H, W, 3 or 4], RGB or RGBA.

    The shorter side is scaled to the tower's size, antialiased, and the middle cut out, in the bytes' own arithmetic:
    ONNX Runtime's antialiased Resize of bytes follows Pillow's, two passes in fixed point with weights outside of the
    picture left out (`exclude_outside`). The fourth channel is dropped, not blended.
    """
    editor, graph = Editor(model), model.graph
    tower_input = graph.inputs[0]
    picture = ir.Value(
        name=tower_input.name, type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape(["height", "width", "channels"])
    )
    nodes: list[ir.Node] = []

    def whole(name: str, *values: int) -> ir.Value:
        return editor.constant(f"picture_{name}", np.array(values, dtype=np.int64))

    def computed(kind: str, name: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        result = editor.value(f"picture_{name}")
        nodes.append(op(kind, inputs, [result], **attributes))
        return result

    size, two, first, last = whole("size", spec.size), whole("two", 2), whole("axis", 0), whole("channel_axis", 3)
    sides = computed("Shape", "sides", picture, end=2)  # [H, W]
    shorter = computed("ReduceMin", "shorter", sides, keepdims=1)
    # Whole numbers, cut off and not rounded, as torchvision computes the longer side.
    scaled = computed("Div", "scaled", computed("Mul", "product", sides, size), shorter)
    batch = computed("Unsqueeze", "batch", picture, first)
    resized = computed(
        "Resize",
        "resized",
        batch,
        None,
        None,
        scaled,
        axes=[1, 2],
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
        **MODES[spec.interpolation],
    )
    # Half of what is left over; of an odd number the even half, as Python rounds.
    over = computed("Sub", "over", scaled, size)
    half = computed("Div", "half", over, two)
    odd = computed("Mul", "odd", computed("Mod", "over_odd", over, two), computed("Mod", "half_odd", half, two))
    start = computed("Add", "start", half, odd)
    end = computed("Add", "end", start, size)
    cropped = computed("Slice", "cropped", resized, start, end, whole("axes", 1, 2))
    colours = computed("Slice", "colours", cropped, first, whole("channels", CHANNELS), last)
    planes = computed("Transpose", "planes", colours, perm=[0, 3, 1, 2])  # [1, 3, S, S]
    floats = computed("Cast", "floats", planes, to=ir.DataType.FLOAT.value)
    levels = editor.constant("picture_levels", np.array(255, dtype=np.float32))
    pixels = computed("Div", "pixels", floats, levels)
    tower_input.replace_all_uses_with(pixels)
    tower_input.name = None
    graph.inputs[0] = picture
    graph.insert_before(graph[0], nodes)
    (result,) = graph.outputs
    assert result.shape is not None
    result.shape = ir.Shape([1, *result.shape.dims[1:]])
