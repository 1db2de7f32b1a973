"""Tracer of a float32 ONNX graph in MLX, operation by operation.

MLX's convolutions take channels last. So a picture's values [N, C, H, W] are held as [N, H, W, C] from one convolution
to the next. They are turned back only for operations that depend on the axes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.onnx.editing import array, taken
from mobileclip_deploy.targets.onnx.weights import is_pointwise

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
UNARY: Mapping[str, Callable[[mx.array], mx.array]] = {
    "Abs": mx.abs,
    "Neg": mx.negative,
    "Relu": lambda value: mx.maximum(value, mx.array(0, value.dtype)),
    "Sigmoid": mx.sigmoid,
    "Sqrt": mx.sqrt,
    "Tanh": mx.tanh,
}
BINARY: Mapping[str, Callable[[mx.array, mx.array], mx.array]] = {
    "Add": mx.add,
    "Div": mx.divide,
    "Equal": mx.equal,
    "Max": mx.maximum,
    "Mul": mx.multiply,
    "Pow": mx.power,
    "Sub": mx.subtract,
}
SHAPED: Mapping[str, Callable[[mx.array, list[int]], mx.array]] = {
    "Reshape": mx.reshape,
    "Squeeze": mx.squeeze,
    "Unsqueeze": mx.expand_dims,
}
REDUCED = {"ReduceMax": mx.max, "ReduceMean": mx.mean, "ReduceSum": mx.sum}


@dataclass(frozen=True)
class Packed:
    """A weight [O, I] or [rows, width] as integers 0 ... 2^bits - 1, packed into uint32 [O, I bits / 32], the first in
    the lowest bits. With `scales` float16 [O, I / group] an element is (integer - 2^(bits - 1)) * scale."""

    integers: npt.NDArray[np.uint32]
    scales: npt.NDArray[np.float16]
    bits: int
    group: int

    def times(self, value: mx.array) -> mx.array:
        """Multiplies [..., I] -> [..., O]."""
        scales = mx.array(self.scales).astype(mx.float32)
        zeros = scales * -(2.0 ** (self.bits - 1))  # the value of integer 0
        return mx.quantized_matmul(value, mx.array(self.integers), scales, zeros, True, self.group, self.bits)

    def rows(self, ids: mx.array) -> mx.array:
        """Looks up rows of a table, [..., width]. MLX's own operation can be traced on a GPU alone."""
        words, scales = (mx.take(mx.array(part), ids, axis=0) for part in (self.integers, self.scales))
        shifts = mx.array(np.arange(0, 32, self.bits, dtype=np.uint32))
        integers = mx.bitwise_and(mx.right_shift(words[..., None], shifts), mx.array(2**self.bits - 1, mx.uint32))
        blocks = integers.reshape(*scales.shape, self.group).astype(mx.float32) - 2.0 ** (self.bits - 1)
        return (blocks * scales[..., None].astype(mx.float32)).flatten(-2)


@dataclass(frozen=True)
class _Held:
    """A value; `last`: an [N, C, H, W] value is stored with channels last."""

    value: mx.array
    last: bool = False


class Walk:
    """Callable on a graph, for MLX to trace, with the stored form of its constants.

    Args:
        graph: of one input and one output, with only known shapes.
        dtype: of the computation.
        packed, halves: constants that the file stores as integers, and as float16, by name.
    """

    def __init__(
        self, graph: ir.Graph, dtype: mx.Dtype, packed: Mapping[str, Packed] = {}, halves: frozenset[str] = frozenset()
    ) -> None:
        self._graph, self._dtype, self._packed, self._halves = graph, dtype, packed, halves
        self._held: dict[ir.Value, _Held] = {}

    def __call__(self, given: mx.array) -> mx.array:
        """Traces the graph: float32 [1, 3, S, S] or int32 [1, L] -> float32 [1, D].

        Raises:
            Malformed: it has an operation that is not supported here.
        """
        (source,), (result,) = self._graph.inputs, self._graph.outputs
        self._held = {source: _Held(given.astype(self._dtype) if given.dtype == mx.float32 else given)}
        for node in self._graph:
            self._held |= dict(zip(node.outputs, self._computed(node), strict=True))
        return self._first(result).astype(mx.float32)

    def _computed(self, node: ir.Node) -> list[_Held]:
        kind = node.op_type
        if kind in UNARY or kind == "Gelu":
            operand = self._of(taken(node, 0))
            act = UNARY.get(kind, _tanh_gelu if node.attributes.get_string("approximate", "none") == "tanh" else _gelu)
            return [_Held(act(operand.value), operand.last)]
        if kind in BINARY or kind == "Clip":
            return [self._elementwise(node)]
        if kind in REDUCED:
            return [self._reduced(node)]
        if kind in SHAPED:
            return [_Held(SHAPED[kind](self._first(taken(node, 0)), self._integers(taken(node, 1))))]
        if kind == "Split":
            return [_Held(part) for part in self._split(node)]
        method: Callable[[ir.Node], _Held | mx.array] | None = getattr(self, f"_{kind.lower()}", None)
        if method is None:
            raise Malformed(f"the operation {kind}, which is not supported for MLX")
        result = method(node)
        return [result if isinstance(result, _Held) else _Held(result)]

    # Values

    def _of(self, value: ir.Value) -> _Held:
        return self._held[value] if value in self._held else _Held(self._constant(value))

    def _first(self, value: ir.Value) -> mx.array:
        operand = self._of(value)
        return operand.value.transpose(FIRST) if operand.last else operand.value

    def _last(self, value: ir.Value) -> mx.array:
        """Returns [N, H, W, C]; constants that broadcast over a picture have fewer axes, or one of each."""
        operand = self._of(value)
        if operand.last or operand.value.size == 1:
            return operand.value
        expanded = operand.value.reshape(*[1] * (4 - operand.value.ndim), *operand.value.shape)
        return expanded.transpose(LAST)

    def _constant(self, value: ir.Value, order: tuple[int, ...] | None = None) -> mx.array:
        """Returns a constant, in another order of axes; a float in the type of the computation."""
        numbers = _numbers(value)
        numbers = numbers if order is None else np.ascontiguousarray(numbers.transpose(order))
        if numbers.dtype == np.float32:
            stored = numbers.astype(np.float16) if value.name in self._halves else numbers
            return mx.array(stored).astype(self._dtype) if self._dtype == mx.float32 else mx.array(numbers, self._dtype)
        return mx.array(numbers.astype(np.int32) if numbers.dtype == np.int64 else numbers)

    def _integers(self, value: ir.Value) -> list[int]:
        return [int(number) for number in _numbers(value).reshape(-1)]

    # Operations

    def _elementwise(self, node: ir.Node) -> _Held:
        last = any(self._of(value).last for value in _inputs(node))
        first, *others = (self._last(value) if last else self._first(value) for value in _inputs(node))
        if node.op_type == "Clip":
            low, high = others
            return _Held(mx.minimum(mx.maximum(first, low), high), last)
        return _Held(BINARY[node.op_type](first, others[0]), last)

    def _reduced(self, node: ir.Node) -> _Held:
        """Computes in float32: float16 cannot hold sums and squares of many elements."""
        operand, axes = self._of(taken(node, 0)), self._integers(taken(node, 1))
        keep = bool(node.attributes.get_int("keepdims", 1))
        if operand.last and {axis % 4 for axis in axes} != {2, 3}:
            operand = _Held(self._first(taken(node, 0)))
        reduced = REDUCED[node.op_type](
            operand.value.astype(mx.float32), (1, 2) if operand.last else axes, keepdims=keep
        )
        return _Held(reduced.astype(self._dtype), operand.last and keep)

    def _conv(self, node: ir.Node) -> _Held:
        source, weight, *bias = _inputs(node)
        value = self._last(source)
        if is_pointwise(node):
            result = self._times(value, weight, lambda numbers: numbers[:, :, 0, 0].T)
        else:
            top, left, bottom, right = node.attributes.get_ints("pads", [0] * 4)
            result = mx.conv_general(
                value,
                self._constant(weight, (0, 2, 3, 1)),
                list(node.attributes.get_ints("strides", [1, 1])),
                ([top, left], [bottom, right]),
                list(node.attributes.get_ints("dilations", [1, 1])),
                groups=node.attributes.get_int("group", 1),
            )
        return _Held(result if not bias else result + self._of(bias[0]).value, True)

    def _times(
        self, value: mx.array, weight: ir.Value, turn: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    ) -> mx.array:
        """Multiplies [..., I] -> [..., O] by a constant, which `turn` brings to [I, O]."""
        if weight.name in self._packed:
            return self._packed[str(weight.name)].times(value)
        half = weight.name in self._halves or self._dtype == mx.float16
        stored = np.ascontiguousarray(turn(_numbers(weight)), np.float16 if half else np.float32)
        return value @ mx.array(stored).astype(self._dtype)

    def _matmul(self, node: ir.Node) -> mx.array:
        left, right = _inputs(node)
        numbers = array(right)
        if numbers is not None and numbers.ndim == 2:
            return self._times(self._first(left), right, lambda numbers: numbers)
        return self._first(left) @ self._first(right)

    def _gemm(self, node: ir.Node) -> mx.array:
        left, right, *bias = _inputs(node)
        turned = bool(node.attributes.get_int("transB", 0))
        result = self._times(self._first(left), right, lambda numbers: numbers.T if turned else numbers)
        return result if not bias else result + self._first(bias[0])

    def _gather(self, node: ir.Node) -> mx.array:
        """Looks up rows of a table, or one position along an axis."""
        table, indices = _inputs(node)
        if table.name in self._packed:
            return self._packed[str(table.name)].rows(self._first(indices))
        axis, numbers = node.attributes.get_int("axis", 0), array(indices)
        if numbers is None:
            return mx.take(self._first(table), self._first(indices), axis=axis)
        (index,) = self._integers(indices)
        value = self._first(table)
        row = _part(value, axis, index % value.shape[axis], 1)  # an index may count from the end
        return row.squeeze(axis) if numbers.ndim == 0 else row

    def _split(self, node: ir.Node) -> list[mx.array]:
        """Splits by slices: MLX's own operation has several results."""
        value, axis = self._first(taken(node, 0)), node.attributes.get_int("axis", 0)
        count = len(node.outputs)
        size = -(-value.shape[axis] // count)
        sizes = self._integers(taken(node, 1)) if len(node.inputs) > 1 else [size] * count
        return [_part(value, axis, sum(sizes[:index]), size) for index, size in enumerate(sizes)]

    def _layernormalization(self, node: ir.Node) -> mx.array:
        """Computes in float32 except for weight and bias; MLX's own operation can be traced on a GPU alone."""
        source, *scaled = _inputs(node)
        value = self._first(source).astype(mx.float32)
        away = value - value.mean(-1, keepdims=True)
        spread = mx.square(away).mean(-1, keepdims=True)
        normalised = (away * mx.rsqrt(spread + node.attributes.get_float("epsilon", 1e-5))).astype(self._dtype)
        weight, *bias = (self._first(parameter) for parameter in scaled)
        return normalised * weight if not bias else normalised * weight + bias[0]

    def _softmax(self, node: ir.Node) -> mx.array:
        return mx.softmax(self._first(taken(node, 0)), axis=node.attributes.get_int("axis", -1), precise=True)

    def _cast(self, node: ir.Node) -> mx.array:
        to = ir.DataType(node.attributes.get_int("to", 0))
        dtypes = {ir.DataType.FLOAT: self._dtype, ir.DataType.INT32: mx.int32, ir.DataType.INT64: mx.int32}
        if to not in dtypes:
            raise Malformed(f"a cast to {to.name}, which is not supported for MLX")
        return self._first(taken(node, 0)).astype(dtypes[to])

    def _concat(self, node: ir.Node) -> mx.array:
        return mx.concatenate([self._first(value) for value in _inputs(node)], node.attributes.get_int("axis", 0))

    def _transpose(self, node: ir.Node) -> mx.array:
        return self._first(taken(node, 0)).transpose(list(node.attributes.get_ints("perm", [])))


def _inputs(node: ir.Node) -> list[ir.Value]:
    return [taken(node, index) for index in range(len(node.inputs))]


def _numbers(value: ir.Value) -> npt.NDArray[Any]:
    numbers = array(value)
    assert numbers is not None
    return numbers


def _part(value: mx.array, axis: int, start: int, size: int) -> mx.array:
    """Returns `size` positions along an axis."""
    return value[(*[slice(None)] * (axis % value.ndim), slice(start, start + size))]


def _by(value: mx.array, factor: float) -> mx.array:
    """Multiplies a value by a number. One float16 factor is up to 2.4e-4 off, which would change every GELU alike; the
    product of two float16 factors comes within 1e-6."""
    if value.dtype != mx.float16:
        return value * factor
    firsts = np.arange(1024, 2048) / 2048
    seconds = (factor / firsts).astype(np.float16).astype(np.float64)
    best = np.abs(firsts * seconds - factor).argmin()
    return value * float(firsts[best]) * float(seconds[best])


def _gelu(value: mx.array) -> mx.array:
    return value * (0.5 * (1 + mx.erf(_by(value, 1 / math.sqrt(2)))))


def _tanh_gelu(value: mx.array) -> mx.array:
    inner = _by(value + _by(value, 0.044715) * value * value, math.sqrt(2 / math.pi))
    return value * (0.5 * (1 + mx.tanh(inner)))
