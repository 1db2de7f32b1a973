"""Preprocessing inside an ONNX image tower: pictures given as bytes are resized, cropped and scaled as Pillow does
it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mobileclip_deploy.network.model.variants import Preprocess
from mobileclip_deploy.targets.onnx.editing import OnnxEditor, op

MODES: dict[str, dict[str, Any]] = {"bilinear": {"mode": "linear"}, "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5}}
CHANNELS = 3
LARGE = 1_000_000
"""Number of pixels from which a picture is large. Below it, Resize takes little time. Also, the fewer rows are summed,
the larger is the effect of one level."""
LARGE_RATIO = 4
"""Smallest downscaling of a large picture's shorter side; a panorama's may be less."""
BLOCK = 8
"""Number of rows computed from one interval of source rows. Fewer copy the picture's bytes more often, more multiply by
more zeros. 8 is the fastest of 2 to 64 (benchmarks/pictures.py)."""


FILTERS = {"bilinear": (1, 0, 254), "bicubic": (2, 32, 220)}
"""Radius of a resizing filter, in pixels; the byte of weight 0; and the difference of the largest weight's byte from
that. With these, rounding leaves 0 ... 255 on neither side."""


def take_pictures(model: ir.Model, spec: Preprocess) -> None:
    """Inserts preprocessing at the start of a tower, which then takes one picture of any size: uint8 [H, W, 3 or 4],
    RGB or RGBA.

    The shorter side is scaled to the tower's size, antialiased, and the middle cut out. The fourth channel is dropped,
    not blended. There are two methods, chosen by the picture's size:

    - ONNX Runtime's antialiased Resize of bytes follows Pillow's: two passes in fixed point, with weights outside of
      the picture left out (`exclude_outside`). Hardly a value differs, but its loop handles one element at a time. For
      a photograph of 12 megapixels it takes nine tenths of the time of S0's image tower.
    - For large pictures each axis is a product of bytes (`_Front.product`): a third of that time. Rows come before
      columns there, whereas Pillow begins with the columns: more values differ by one level.
    """
    editor, graph = OnnxEditor(model), model.graph
    tower_input = graph.inputs[0]
    picture = ir.Value(
        name=tower_input.name, type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape(["height", "width", "channels"])
    )
    front = _Front(editor, spec)
    axes = front.axes(picture)
    large = front.large(axes)
    branches = {}
    for name, method in (("then_branch", _by_products), ("else_branch", _by_resize)):
        branch = front.branch()
        branches[name] = ir.Graph([], [method(branch, picture, axes)], nodes=branch.nodes, name=f"picture_{name}")
    planes = front.op("If", large, **branches)  # uint8 [1, 3, S, S]
    pixels = front.op("Div", front.floats(planes), front.number(255))
    tower_input.replace_all_uses_with(pixels)
    tower_input.name = None
    graph.inputs[0] = picture
    graph.insert_before(graph[0], front.nodes)
    (result,) = graph.outputs
    assert result.shape is not None
    result.shape = ir.Shape([1, *result.shape.dims[1:]])


def _by_resize(front: _Front, picture: ir.Value, axes: tuple[_Axis, _Axis]) -> ir.Value:
    """Converts uint8 [H, W, C] to [1, 3, S, S] by ONNX Runtime's Resize."""
    first, last, size = front.whole(0), front.whole(3), front.whole(front.spec.size)
    resized = front.op(
        "Resize",
        front.op("Unsqueeze", picture, first),
        None,
        None,
        front.op("Concat", *(axis.scaled for axis in axes), axis=0),
        axes=[1, 2],
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
        **MODES[front.spec.interpolation],
    )
    start = front.op("Concat", *(axis.start for axis in axes), axis=0)
    cropped = front.op("Slice", resized, start, front.op("Add", start, size), front.whole(1, 2))
    colours = front.op("Slice", cropped, first, front.whole(CHANNELS), last)
    return front.op("Transpose", colours, perm=[0, 3, 1, 2])


def _by_products(front: _Front, picture: ir.Value, axes: tuple[_Axis, _Axis]) -> ir.Value:
    """Converts uint8 [H, W, C] to [1, 3, S, S] by products of bytes. Cropped rows are not computed."""
    height, width = axes
    rows = front.product(picture, height)  # [S, W, C]
    colours = front.op("Slice", rows, front.whole(0), front.whole(CHANNELS), front.whole(2))
    turned = front.op("Transpose", colours, perm=[1, 2, 0])  # [W, 3, S]
    columns = front.product(turned, width)  # [S of the width, 3, S of the height]
    return front.op("Unsqueeze", front.op("Transpose", columns, perm=[1, 2, 0]), front.whole(0))


@dataclass(frozen=True)
class _Axis:
    """Height or width of the picture, int64 [1] each: its pixels, its pixels after scaling, and the first pixel of the
    crop."""

    length: ir.Value
    scaled: ir.Value
    start: ir.Value


class _Front:
    """Nodes before the tower, in their order."""

    def __init__(self, editor: OnnxEditor, spec: Preprocess, constants: dict[bytes, ir.Value] | None = None) -> None:
        self.spec = spec
        self._editor, self._constants = editor, {} if constants is None else constants
        self.nodes: list[ir.Node] = []

    def branch(self) -> _Front:
        """Returns an empty list of nodes for a subgraph, which shares the constants."""
        return _Front(self._editor, self.spec, self._constants)

    def op(self, kind: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        result = self._editor.value("picture")
        self.nodes.append(op(kind, inputs, [result], **attributes))
        return result

    def whole(self, *values: int) -> ir.Value:
        return self._constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> ir.Value:
        return self._constant(np.array(value, dtype=np.float32))

    def constant(self, value: int, dtype: type[np.generic] = np.int64) -> ir.Value:
        """Returns a scalar integer."""
        return self._constant(np.array(value, dtype=dtype))

    def floats(self, value: ir.Value) -> ir.Value:
        return self.op("Cast", value, to=ir.DataType.FLOAT.value)

    def _constant(self, values: npt.NDArray[Any]) -> ir.Value:
        key = repr((values.dtype, values.shape)).encode() + values.tobytes()
        if key not in self._constants:
            self._constants[key] = self._editor.constant("picture_constant", values)
        return self._constants[key]

    def axes(self, picture: ir.Value) -> tuple[_Axis, _Axis]:
        """Returns the picture's height and width."""
        sides, two = self.op("Shape", picture, end=2), self.whole(2)
        size, shorter = self.whole(self.spec.size), self.op("ReduceMin", sides, keepdims=1)
        resized = self.whole(self.spec.resized)
        both = []
        for axis in (0, 1):
            length = self.op("Slice", sides, self.whole(axis), self.whole(axis + 1), self.whole(0))
            # Truncated integers, not rounded, as torchvision computes the longer side.
            scaled = self.op("Div", self.op("Mul", length, resized), shorter)
            # Half of the excess; for an odd excess the even neighbour, as Python rounds.
            over = self.op("Sub", scaled, size)
            half = self.op("Div", over, two)
            odd = self.op("Mul", self.op("Mod", over, two), self.op("Mod", half, two))
            both.append(_Axis(length, scaled, self.op("Add", half, odd)))
        height, width = both
        return height, width

    def large(self, axes: tuple[_Axis, _Axis]) -> ir.Value:
        """Returns whether a picture is large by `LARGE` and `LARGE_RATIO`: bool, a scalar."""
        height, width = axes
        pixels = self.op("Mul", height.length, width.length)
        shorter = self.op("Min", height.length, width.length)
        many = self.op("GreaterOrEqual", pixels, self.whole(LARGE))
        wide = self.op("GreaterOrEqual", shorter, self.whole(LARGE_RATIO * self.spec.size))
        return self.op("Squeeze", self.op("And", many, wide), self.whole(0))

    def product(self, rows: ir.Value, axis: _Axis) -> ir.Value:
        """Scales and crops an axis of the picture, of length N: bytes [N, A, B] to bytes [S, A, B].

        Weights become bytes with the same sum in every row, and multiply the rows that they reach.
        """
        size = self.spec.size
        block = next(length for length in range(min(BLOCK, size), 0, -1) if size % length == 0)
        reach, nothing, top = FILTERS[self.spec.interpolation]
        ratio = self.op("Div", self.floats(axis.length), self.floats(axis.scaled))  # [1]
        stretch = self.op("Max", ratio, self.number(1))
        support = self.op("Mul", stretch, self.number(reach))
        row_middles = self._constant(np.arange(size, dtype=np.float32).reshape(-1, block, 1) + np.float32(0.5))
        centers = self.op("Mul", self.op("Add", row_middles, self.floats(axis.start)), ratio)  # [S / block, block, 1]
        lowest = self.op("ReduceMin", centers, self.whole(1, 2), keepdims=0)  # [S / block]
        first = self.op("Floor", self.op("Sub", lowest, support))
        # Source rows of a block: from the support of its first row to that of its last.
        spread = self.op("Add", self.op("Mul", ratio, self.number(block - 1)), self.op("Add", support, support))
        count = self.op("Add", self.op("Ceil", spread), self.number(2))
        counted = self.op("Squeeze", self.op("Cast", count, to=ir.DataType.INT64.value), self.whole(0))
        steps = self.op("Range", self.constant(0), counted, self.constant(1))
        positions = self.op("Add", self.op("Unsqueeze", first, self.whole(1)), self.floats(steps))  # [S / block, K]
        end = self.op("Sub", self.floats(axis.length), self.number(1))
        inside = self.op("Min", self.op("Max", positions, self.number(0)), end)
        weights = self._weights(positions, inside, centers, stretch)  # [S / block, block, K]
        largest = self.op("ReduceMax", weights, keepdims=0)
        total = self.op("Floor", self.op("Div", self.number(top), largest))  # sum of a row's bytes
        bytes_ = self._as_bytes(weights, total, nothing)
        unit, black = self.number(1), self.constant(0, np.uint8)
        zero = self.constant(nothing, np.uint8)
        shape = self.op("Shape", rows)
        flat = self.op("Reshape", rows, self.whole(0, -1))  # [N, A * B]
        indices = self.op("Cast", inside, to=ir.DataType.INT64.value)
        stretches = self.op("Gather", flat, indices, axis=0)  # [S / block, K, A * B]
        scale = self.op("Div", unit, total)
        product = self.op("QLinearMatMul", bytes_, scale, zero, stretches, unit, black, unit, black)
        rest = self.op("Slice", shape, self.whole(1), self.whole(3), self.whole(0))
        return self.op("Reshape", product, self.op("Concat", self.whole(size), rest, axis=0))

    def _weights(self, places: ir.Value, inside: ir.Value, centers: ir.Value, stretch: ir.Value) -> ir.Value:
        """Returns the weight of each position for each of a block's rows, float32 [S / block, block, K]. Weights sum to
        1, and are 0 outside of the picture."""
        middles = self.op("Unsqueeze", self.op("Add", places, self.number(0.5)), self.whole(1))
        away = self.op("Abs", self.op("Div", self.op("Sub", middles, centers), stretch))
        in_picture = self.op("Unsqueeze", self.floats(self.op("Equal", places, inside)), self.whole(1))
        masked = self.op("Mul", self._filtered(away), in_picture)
        return self.op("Div", masked, self.op("ReduceSum", masked, self.whole(2), keepdims=1))

    def _filtered(self, away: ir.Value) -> ir.Value:
        """Returns the filter's value at a distance in pixels, counted in the scaled picture if that is smaller."""
        if self.spec.interpolation == "bilinear":
            return self.op("Relu", self.op("Sub", self.number(1), away))
        # Keys' cubic with a = -0.5: 1.5 t^3 - 2.5 t^2 + 1 up to 1, -0.5 t^3 + 2.5 t^2 - 4 t + 2 up to 2.
        near = self._polynomial(away, 1.5, -2.5, 0.0, 1.0)
        far = self._polynomial(self.op("Min", away, self.number(2)), -0.5, 2.5, -4.0, 2.0)
        return self.op("Where", self.op("Less", away, self.number(1)), near, far)

    def _polynomial(self, t: ir.Value, *factors: float) -> ir.Value:
        result = self.number(factors[0])
        for factor in factors[1:]:
            result = self.op("Add", self.op("Mul", result, t), self.number(factor))
        return result

    def _as_bytes(self, weights: ir.Value, total: ir.Value, zero: int) -> ir.Value:
        """Returns weights as uint8 whose sum is `total` in every row. Running sums are rounded, so that no row gets
        brighter."""
        after, before = (
            self.op("Round", self.op("Mul", self.op("CumSum", weights, self.constant(2), exclusive=which), total))
            for which in (0, 1)
        )
        rounded = self.op("Add", self.op("Sub", after, before), self.number(zero))
        return self.op("Cast", rounded, to=ir.DataType.UINT8.value)
