"""Activations that an artifact quantizes with a constant scale and zero point, located in its graph."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, wires


@dataclass(frozen=True)
class QuantizedValue:
    """A computed value that a file quantizes: it becomes `(integer - zero_point) * restored`.

    Attributes:
        name: name of the integers in the file.
        source: name of the value in the file before it is quantized.
        takers: results of the consumers that take it quantized, if others take it unquantized or quantized differently;
            empty if every consumer takes it quantized.
        scale, zero_point: scale of the quantization and the integer for 0, as stored in the file.
        least, most: smallest and largest integer.
        restored: scale of the dequantization: `scale`, up to a rounding of the file's own.
    """

    name: str
    source: str
    takers: tuple[str, ...]
    scale: float
    zero_point: int
    least: int
    most: int
    restored: float

    @property
    def low(self) -> float:
        """Smallest value that is not clipped."""
        return (self.least - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """Largest value that is not clipped."""
        return (self.most - self.zero_point) * self.scale


class QuantizedFile(ABC):
    """An artifact that quantizes activations, loaded to trace it from one quantized value to the next.

    Attributes:
        values: its quantized values, in the file's order.
        bias_steps: scales of biases stored as integers, [outputs], by the name of the layer's `StoredWeight`.
        engine: the runtime, with its version.
    """

    values: tuple[QuantizedValue, ...]
    bias_steps: Mapping[str, Floats]
    engine: str

    @property
    def followed(self) -> list[str]:
        """Names of every source and consumer result."""
        return sorted({name for value in self.values for name in (value.source, *value.takers)})

    @abstractmethod
    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        """Returns every source and consumer result for one input [1, ...], with only the stored constants rounded."""

    @abstractmethod
    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        """Returns the answer [1, D] to one input, and the integers of every value."""


class Flow:
    """Consumers of a graph's values, with operations skipped that only quantize or reshape.

    Args:
        same: returns whether an operation changes no element: its result is its input in another shape or type.
        passed: returns whether an operation quantizes or dequantizes, and is skipped.
    """

    def __init__(self, graph: Graph, same: Callable[[Node], bool], passed: Callable[[Node], bool]) -> None:
        self._results = {result for result in graph.results if isinstance(result, Wire)}
        self._same: dict[Wire, Wire] = {}
        self._shaped = defaultdict[Wire, list[Wire]](list)
        self._takers = defaultdict[Wire, list[Wire]](list)
        result_wires = defaultdict[int, set[Wire]](set)
        for wire in (*self._results, *(wire for node in graph.nodes for wire in wires(node))):
            if wire.node is not None:
                result_wires[wire.node].add(wire)
        for index, node in enumerate(graph.nodes):
            results = sorted(result_wires[index] | {Wire(index)}, key=lambda wire: wire.output)
            sources = wires(node)
            if same(node):
                for wire in sources[:1]:  # empty for a constant
                    self._same[results[0]] = wire
                    self._shaped[wire].append(results[0])
            elif not passed(node):
                for wire in dict.fromkeys(sources):
                    self._takers[wire] += results

    def taking(self, source: Wire, restored: Wire, alone: bool = True) -> tuple[Wire, ...]:
        """Returns the consumers' results of a quantized value. Empty if every consumer takes it quantized.

        Args:
            source: the value before it is quantized.
            restored: the dequantized value.
            alone: True if nothing else is dequantized from its integers.
        """
        origin = source
        while origin in self._same:
            origin = self._same[origin]
        return self.reached(restored) if self.reached(origin) or not alone else ()

    def reached(self, value: Wire) -> tuple[Wire, ...]:
        """Returns the results computed from a value in any shape. An output of the graph counts as its own consumer."""
        waiting, seen = [value], dict[Wire, None]()
        while waiting:
            wire = waiting.pop()
            seen[wire] = None
            waiting += [shaped for shaped in self._shaped[wire] if shaped not in seen]
        taking = [result for wire in seen for result in self._takers[wire]]
        return tuple(dict.fromkeys([*taking, *(wire for wire in seen if wire in self._results)]))


@dataclass(frozen=True)
class QuantizeOps:
    """Operations with which a format quantizes and dequantizes. Each is a type, and the names of its input, scale and
    zero point.

    Attributes:
        shapes: types of operations that change no element.
        sums: types of operations that add quantized values in units of the first input's scale (as coremltools does).
            Their inputs are dequantized to plain integers, and the sum's scale is divided by that unit.
        tolerance: largest relative difference of two scales that count as equal.
        limits: returns the smallest and largest integer of an operation that quantizes.
        looked_up: types of table look-ups, which return the table's integers unchanged.
        bias_behind: types of a product and of the addition of its bias, which are one operation in torch.
    """

    quantize: tuple[str, str, str, str]
    dequantize: tuple[str, str, str, str]
    shapes: Collection[str]
    limits: Callable[[Node], tuple[int, int]]
    sums: Collection[str] = ()
    tolerance: float = 0.0
    looked_up: Collection[str] = ()
    bias_behind: tuple[str, str] | None = None


def quantized_values(graph: Graph, pair: QuantizeOps) -> Iterator[QuantizedValue]:
    """Yields the values that a graph quantizes by separate operations, one entry for each dequantization.

    Raises:
        KeyError, ValueError: a form that no export writes: a computed scale, one scale per channel, or a value
            dequantized with another scale than it was quantized with.
    """
    types = {pair.quantize[0], pair.dequantize[0]}
    flow = Flow(graph, lambda node: node.type in pair.shapes, lambda node: node.type in types)
    steps: dict[Wire, float] = {}  # by quantized value: its scale in the network's units
    units: dict[Wire, float] = {}  # by sum: the file's value divided by the network's
    for index, node in enumerate(graph.nodes):
        if node.type == pair.quantize[0]:
            steps[Wire(index)] = number_of(node, pair.quantize[2]) / units.get(_source(node, pair.quantize), 1.0)
        elif node.type in pair.sums:
            units[Wire(index)] = _units(graph, node, pair, steps)
    dequantizers = [index for index, node in enumerate(graph.nodes) if _restores(node, pair, steps)]
    for index in dequantizers:
        back, restored = graph.nodes[index], Wire(index)
        integers = _source(back, pair.dequantize)
        assert integers.node is not None
        node = graph.nodes[integers.node]
        source = _source(node, pair.quantize)
        taking = flow.reached(restored)
        step = number_of(back, pair.dequantize[2]) / units.get(taking[0] if taking else restored, 1.0)
        zero = number_of(node, pair.quantize[3])
        if abs(step / steps[integers] - 1) > pair.tolerance or number_of(back, pair.dequantize[3]) != zero:
            raise Malformed(f"{graph.names[source]} is not dequantized with the scale it was quantized with")
        alone = sum(_source(graph.nodes[other], pair.dequantize) == integers for other in dequantizers) == 1
        takers = tuple(
            graph.names[_with_bias(graph, wire, pair.bias_behind)] for wire in flow.taking(source, restored, alone)
        )
        named = graph.names[integers], graph.names[source], takers
        if not _exact(graph, node, pair):
            yield QuantizedValue(*named, steps[integers], int(zero), *pair.limits(node), step)


def _exact(graph: Graph, node: Node, pair: QuantizeOps) -> bool:
    """Returns whether an operation quantizes rows of an integer table by the table's own scale, which changes
    nothing."""
    look = graph.producer(_source(node, pair.quantize))
    table = None if look is None or look.type not in pair.looked_up else graph.producer(look.inputs[0][1])
    if table is None or table.type != pair.dequantize[0] or not isinstance(table.inputs[0][1], Constant):
        return False
    ends = zip(pair.quantize[2:], pair.dequantize[2:], strict=True)
    return all(number_of(node, ours) == number_of(table, theirs) for ours, theirs in ends)


def _restores(node: Node, pair: QuantizeOps, steps: Mapping[Wire, float]) -> bool:
    """Returns whether an operation dequantizes a computed value; dequantized weights are constants."""
    return node.type == pair.dequantize[0] and any(wire in steps for wire in wires(node))


def _source(node: Node, form: tuple[str, str, str, str]) -> Wire:
    value = dict(node.inputs)[form[1]]
    if not isinstance(value, Wire):
        raise Malformed(f"{node.name} has no computed input")
    return value


def number_of(node: Node, called: str) -> float:
    """Returns a constant scale or zero point; 0 without a zero point."""
    value: Input = dict(node.inputs).get(called)
    if value is None:
        return 0.0
    if not isinstance(value, Constant):
        raise Malformed(f"the {called} of {node.name} is computed")
    return float(value.values.item())


def _units(graph: Graph, node: Node, pair: QuantizeOps, steps: Mapping[Wire, float]) -> float:
    """Returns the unit of a sum: the file's value divided by the network's.

    Raises:
        ValueError: the units of the summands differ.
    """
    summands = [value for _, value in node.inputs if value is not None]
    restoring = [maker for value in summands if (maker := graph.producer(value)) and _restores(maker, pair, steps)]
    if len(restoring) < len(summands):
        return 1.0
    ratios = [number_of(maker, pair.dequantize[2]) / steps[_source(maker, pair.dequantize)] for maker in restoring]
    if max(ratios) > min(ratios) * (1 + pair.tolerance):
        names = " and ".join(graph.names[_source(maker, pair.dequantize)] for maker in restoring)
        raise Malformed(f"the summands {names} have different scales")
    return ratios[0]


def _with_bias(graph: Graph, result: Wire, types: tuple[str, str] | None) -> Wire:
    """Returns the result of an operation; for a product followed only by the addition of its bias, that sum."""
    if types is None or result.node is None or graph.nodes[result.node].type != types[0]:
        return result
    users = [index for index, node in enumerate(graph.nodes) if result in wires(node)]
    added = len(users) == 1 and graph.nodes[users[0]].type == types[1] and len(wires(graph.nodes[users[0]])) == 1
    return Wire(users[0]) if added else result
