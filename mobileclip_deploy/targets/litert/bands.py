"""The fast path in a converted file: 7 x 7 depthwise convolutions as the bands of rows of `targets.depthwise`.

A tower that is rewritten before it is converted gives the same numbers, but the converter takes every operation through
all of its passes, and there are five or more for one convolution. Those that make two channels of each, MobileCLIP's
downsampling, are two convolutions first, whose channels are then taken in turn: XNNPACK has depthwise kernels for one
output a channel alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.depthwise import BANDS, KERNEL, all_within
from mobileclip_deploy.targets.litert.editing import Editor

SAME, VALID = 0, 1  # Padding, in the schema
HALF = KERNEL // 2
DILATED = 2  # the version of a DEPTHWISE_CONV_2D that may have a dilation


def deal_out(editor: Editor) -> None:
    """Deal out every such convolution of a float32 file, in place.

    A convolution of which a band would lie wholly outside of its map stays whole: such a band gives zeros, whose range
    integers cannot have.
    """
    dealer, operators = _Dealer(editor), list[Any]()
    for operator in editor.graph.operators:
        found = dealer.found(operator)
        operators += [operator] if found is None else dealer.written(found)
    taken = {*editor.graph.outputs, *(place for one in operators for place in one.inputs)}
    editor.graph.operators = [one for one in operators if taken & set(one.outputs)]  # nothing takes their padding now
    editor.drop_tensors()


@dataclass(frozen=True)
class _Convolution:
    """One of 7 x 7: `window` [1, 7, 7, C * M] and `bias` [C * M] make M channels of each of C; it takes `source` with 3
    pixels more on every side, and gives `result`."""

    window: Floats
    bias: Floats
    stride: int
    multiplier: int
    source: int
    result: int


class _Dealer:
    """Writes the operators that stand in a convolution's place."""

    def __init__(self, editor: Editor) -> None:
        self._editor, self._schema, self._tensors = editor, editor.schema, editor.graph.tensors
        self._pads = {one.outputs[0]: one for one in editor.graph.operators if editor.is_type(one, "PAD")}
        self._constants: dict[bytes, int] = {}

    def found(self, operator: Any) -> _Convolution | None:
        """What is to be dealt out; None of everything else."""
        if not self._editor.is_type(operator, "DEPTHWISE_CONV_2D"):
            return None
        options, (source, *constants) = operator.builtinOptions, operator.inputs
        window, bias = (self._editor.values(place) for place in constants)
        plain = options.dilationHFactor == options.dilationWFactor == 1 and options.fusedActivationFunction == 0
        if window is None or bias is None or window.shape[:3] != (1, KERNEL, KERNEL) or not plain:
            return None
        stride = int(options.strideH)
        if options.padding == VALID:
            pad = self._pads.get(source)
            sides = None if pad is None else self._editor.values(pad.inputs[1])
            if pad is None or sides is None or not np.array_equal(sides, _padding(HALF)):
                return None
            source = pad.inputs[0]
        elif stride != 1:  # then it is not the same on both sides
            return None
        if options.strideW != stride or not all_within(int(self._tensors[source].shape[1]), stride):
            return None
        return _Convolution(window, bias, stride, int(options.depthMultiplier), source, operator.outputs[0])

    def written(self, whole: _Convolution) -> Iterator[Any]:
        """The operators, in the order in which they run."""
        if whole.multiplier == 1:
            yield from self._bands(whole)
            return
        height, width, channels = self._tensors[whole.result].shape[1:]
        count, parts = whole.multiplier, []
        for number in range(count):
            parts.append(self._made(whole.result, f"_part_{number}", [1, height, width, channels // count]))
            window, bias = (np.ascontiguousarray(one[..., number::count]) for one in (whole.window, whole.bias))
            yield from self._bands(replace(whole, window=window, bias=bias, multiplier=1, result=parts[-1]))
        joined = self._made(whole.result, "_parts", [1, height, width, channels])
        yield self._editor.operator("CONCATENATION", parts, joined, self._schema.ConcatenationOptionsT(axis=3))
        yield from self._in_turn(joined, whole.result, count)

    def _bands(self, whole: _Convolution) -> Iterator[Any]:
        """The sum of three convolutions with one output per channel; the first has the bias."""
        shape, total = list(self._tensors[whole.result].shape), None
        for number, (first, step, rows) in enumerate(BANDS):
            source, padding, mark = whole.source, SAME, f"_rows_{number}"
            if whole.stride > 1:
                source, padding = self._made(whole.result, f"{mark}_padded", self._padded(whole, HALF - first)), VALID
                sides = self._constant(b"padding_%d" % (HALF - first), _padding(HALF - first))
                yield self._editor.operator("PAD", [whole.source, sides], source, self._schema.PadOptionsT())
            options = self._schema.DepthwiseConv2DOptionsT(padding=padding, depthMultiplier=1, dilationHFactor=step)
            options.strideH = options.strideW = whole.stride
            window = np.ascontiguousarray(whole.window[:, first : first + step * (rows - 1) + 1 : step])
            name = self._tensors[whole.result].name + mark.encode()
            if total is None:
                bias = self._editor.constant(name + b"_bias", whole.bias)
            else:
                bias = self._constant(b"no_bias_%d" % shape[3], np.zeros(shape[3], np.float32))
            summand = self._made(whole.result, mark, shape)
            taken = [source, self._editor.constant(name + b"_window", window), bias]
            yield self._editor.operator("DEPTHWISE_CONV_2D", taken, summand, options, DILATED)
            if total is not None:
                last = number == len(BANDS) - 1
                both = whole.result if last else self._made(whole.result, f"{mark}_sum", shape)
                yield self._editor.operator("ADD", [total, summand], both, self._schema.AddOptionsT())
                summand = both
            total = summand

    def _in_turn(self, joined: int, result: int, count: int) -> Iterator[Any]:
        """Channels of parts that stand behind one another, the first of each, then the second of each."""
        shape = [int(size) for size in self._tensors[result].shape]
        pixels, each = shape[1] * shape[2], shape[3] // count
        apart = self._made(result, "_apart", [1, pixels, count, each])
        turned = self._made(result, "_turned", [1, pixels, each, count])
        order = self._constant(b"last_two_swapped", np.array([0, 1, 3, 2], np.int32))
        yield self._reshaped(joined, apart)
        yield self._editor.operator("TRANSPOSE", [apart, order], turned, self._schema.TransposeOptionsT())
        yield self._reshaped(turned, result)

    def _reshaped(self, source: int, result: int) -> Any:
        shape = np.asarray(self._tensors[result].shape, np.int32)
        wanted = self._constant(b"shape_" + b"_".join(b"%d" % size for size in shape), shape)
        return self._editor.operator("RESHAPE", [source, wanted], result, self._schema.ReshapeOptionsT(newShape=shape))

    def _padded(self, whole: _Convolution, rows: int) -> list[int]:
        _, height, width, channels = (int(size) for size in self._tensors[whole.source].shape)
        return [1, height + 2 * rows, width + 2 * HALF, channels]

    def _made(self, result: int, mark: str, shape: list[int]) -> int:
        """The place of a new tensor on the way to a result; the names of both begin alike."""
        return self._editor.computed(self._tensors[result].name + mark.encode(), shape)

    def _constant(self, name: bytes, values: npt.NDArray[Any]) -> int:
        """The place of a constant that several take."""
        if name not in self._constants:
            self._constants[name] = self._editor.constant(name, values)
        return self._constants[name]


def _padding(rows: int) -> npt.NDArray[np.int32]:
    return np.array([[0, 0], [rows, rows], [HALF, HALF], [0, 0]], np.int32)
