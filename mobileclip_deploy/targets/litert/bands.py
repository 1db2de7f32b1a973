"""Faster 7 x 7 depthwise convolutions in a converted file, as the bands of rows of `targets.depthwise`.

A tower that is rewritten before its conversion gives the same results. But the converter runs every operation through
all of its passes, and each convolution becomes five operations or more. Convolutions with two outputs per channel,
MobileCLIP's downsampling, first become two convolutions, whose channels are then interleaved: XNNPACK has depthwise
kernels for one output per channel only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.depthwise import BANDS, KERNEL, all_within
from mobileclip_deploy.targets.litert.editing import LiteRTEditor

SAME, VALID = 0, 1  # Padding, in the schema
HALF = KERNEL // 2
DILATED = 2  # the version of a DEPTHWISE_CONV_2D that may have a dilation


def deal_out(editor: LiteRTEditor) -> None:
    """Divides every such convolution of a float32 file into bands, in place.

    A convolution with a band wholly outside of its map stays whole: such a band gives zeros, whose range integers
    cannot have.
    """
    dealer, operators = _Dealer(editor), list[Any]()
    for operator in editor.graph.operators:
        convolution = dealer.found(operator)
        operators += [operator] if convolution is None else dealer.written(convolution)
    used = {*editor.graph.outputs, *(index for operator in operators for index in operator.inputs)}
    # Nothing uses the convolutions' own padding any more.
    editor.graph.operators = [operator for operator in operators if used & set(operator.outputs)]
    editor.drop_tensors()


@dataclass(frozen=True)
class _Convolution:
    """A 7 x 7 convolution with M outputs for each of C channels: `window` [1, 7, 7, C * M] and `bias` [C * M].

    It takes `source`, padded by 3 pixels on every side, and computes `result`.
    """

    window: Floats
    bias: Floats
    stride: int
    multiplier: int
    source: int
    result: int


class _Dealer:
    """Writer of the operators that replace a convolution."""

    def __init__(self, editor: LiteRTEditor) -> None:
        self._editor, self._schema, self._tensors = editor, editor.schema, editor.graph.tensors
        self._pads = {op.outputs[0]: op for op in editor.graph.operators if editor.is_type(op, "PAD")}
        self._constants: dict[bytes, int] = {}

    def found(self, operator: Any) -> _Convolution | None:
        """Returns the convolution to divide. None for any other operator."""
        if not self._editor.is_type(operator, "DEPTHWISE_CONV_2D"):
            return None
        options, (source, *constants) = operator.builtinOptions, operator.inputs
        window, bias = (self._editor.values(index) for index in constants)
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
        """Yields the operators in execution order."""
        if whole.multiplier == 1:
            yield from self._bands(whole)
            return
        height, width, channels = self._tensors[whole.result].shape[1:]
        count, parts = whole.multiplier, []
        for index in range(count):
            parts.append(self._made(whole.result, f"_part_{index}", [1, height, width, channels // count]))
            window, bias = (np.ascontiguousarray(array[..., index::count]) for array in (whole.window, whole.bias))
            yield from self._bands(replace(whole, window=window, bias=bias, multiplier=1, result=parts[-1]))
        joined = self._made(whole.result, "_parts", [1, height, width, channels])
        yield self._editor.operator("CONCATENATION", parts, joined, self._schema.ConcatenationOptionsT(axis=3))
        yield from self._in_turn(joined, whole.result, count)

    def _bands(self, whole: _Convolution) -> Iterator[Any]:
        """Yields the sum of three convolutions with one output per channel; the first has the bias."""
        shape, total = list(self._tensors[whole.result].shape), None
        for index, (first, step, rows) in enumerate(BANDS):
            source, padding, mark = whole.source, SAME, f"_rows_{index}"
            if whole.stride > 1:
                _, height, width, channels = (int(size) for size in self._tensors[whole.source].shape)
                padded = [1, height + 2 * (HALF - first), width + 2 * HALF, channels]
                source, padding = self._made(whole.result, f"{mark}_padded", padded), VALID
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
            sources = [source, self._editor.constant(name + b"_window", window), bias]
            yield self._editor.operator("DEPTHWISE_CONV_2D", sources, summand, options, DILATED)
            if total is not None:
                last = index == len(BANDS) - 1
                both = whole.result if last else self._made(whole.result, f"{mark}_sum", shape)
                yield self._editor.operator("ADD", [total, summand], both, self._schema.AddOptionsT())
                summand = both
            total = summand

    def _in_turn(self, joined: int, result: int, count: int) -> Iterator[Any]:
        """Interleaves the channels of concatenated parts: the first of each part, then the second of each."""
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
        sizes = self._constant(b"shape_" + b"_".join(b"%d" % size for size in shape), shape)
        return self._editor.operator("RESHAPE", [source, sizes], result, self._schema.ReshapeOptionsT(newShape=shape))

    def _made(self, result: int, mark: str, shape: list[int]) -> int:
        """Returns the index of a new intermediate tensor of a result; both names begin alike."""
        return self._editor.computed(self._tensors[result].name + mark.encode(), shape)

    def _constant(self, name: bytes, values: npt.NDArray[Any]) -> int:
        """Returns the index of a constant that several operators share."""
        if name not in self._constants:
            self._constants[name] = self._editor.constant(name, values)
        return self._constants[name]


def _padding(rows: int) -> npt.NDArray[np.int32]:
    return np.array([[0, 0], [rows, rows], [HALF, HALF], [0, 0]], np.int32)
