"""The activations that an artifact quantizes by a step and a zero point that stand in the file, found in its graph."""

from __future__ import annotations

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
    """A value that a file computes and quantizes: `(integer - zero_point) * restored` is what is left of it.

    Attributes:
        name: of the integers in the file.
        source: what the file calls the value before it is quantized.
        takers: results of the consumers that take it quantized, where others take it as it was or otherwise quantized;
            empty where every consumer takes it so.
        scale, zero_point: the step by which it is quantized and the integer that stands for 0, as they stand in the
            file.
        least, most: the integers that there are.
        restored: the step by which it is dequantized: `scale`, up to a rounding of the file's own.
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
        """The least number that is left as it is."""
        return (self.least - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The greatest number that is left as it is."""
        return (self.most - self.zero_point) * self.scale


class QuantizedFile(ABC):
    """An artifact that quantizes activations, loaded to be followed from one quantized value to the next.

    Attributes:
        values: what it quantizes, in its order.
        bias_steps: of the layers whose biases are whole steps, [outputs], by the name of their `StoredWeight`.
        engine: what runs it.
    """

    values: tuple[QuantizedValue, ...]
    bias_steps: Mapping[str, Floats]
    engine: str

    @property
    def followed(self) -> list[str]:
        """Every source and taker."""
        return sorted({name for value in self.values for name in (value.source, *value.takers)})

    @abstractmethod
    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        """Every source and taker for one input [1, ...], where nothing is rounded but what stands in the file."""

    @abstractmethod
    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        """The answer [1, D] to one input, and the integers of every value."""


class Flow:
    """How values of a graph become others, where nothing is quantized.

    Args:
        same: whether an operation changes no number: what it gives is what it takes, in another shape or type.
        passed: whether an operation is passed over: it quantizes or dequantizes.
    """

    def __init__(self, graph: Graph, same: Callable[[Node], bool], passed: Callable[[Node], bool]) -> None:
        self._results = {result for result in graph.results if isinstance(result, Wire)}
        self._same: dict[Wire, Wire] = {}
        self._shaped = defaultdict[Wire, list[Wire]](list)
        self._takers = defaultdict[Wire, list[Wire]](list)
        given = defaultdict[int, set[Wire]](set)
        for wire in (*self._results, *(wire for node in graph.nodes for wire in wires(node))):
            if wire.node is not None:
                given[wire.node].add(wire)
        for number, node in enumerate(graph.nodes):
            results = sorted(given[number] | {Wire(number)}, key=lambda wire: wire.output)
            taken = wires(node)
            if same(node):
                for wire in taken[:1]:  # none of a constant's
                    self._same[results[0]] = wire
                    self._shaped[wire].append(results[0])
            elif not passed(node):
                for wire in dict.fromkeys(taken):
                    self._takers[wire] += results

    def taking(self, source: Wire, restored: Wire, alone: bool = True) -> tuple[Wire, ...]:
        """Results of the consumers of a value that is quantized; empty where every consumer takes it quantized.

        Args:
            source: the value before it is quantized.
            restored: what becomes of it.
            alone: nothing else is restored from its integers.
        """
        origin = source
        while origin in self._same:
            origin = self._same[origin]
        return self.reached(restored) if self.reached(origin) or not alone else ()

    def reached(self, value: Wire) -> tuple[Wire, ...]:
        """What is computed from a value in whatever shape; an output of the graph is taken by whoever asked."""
        waiting, seen = [value], dict[Wire, None]()
        while waiting:
            wire = waiting.pop()
            seen[wire] = None
            waiting += [shaped for shaped in self._shaped[wire] if shaped not in seen]
        taking = [taker for wire in seen for taker in self._takers[wire]]
        return tuple(dict.fromkeys([*taking, *(wire for wire in seen if wire in self._results)]))


@dataclass(frozen=True)
class Pair:
    """The operations by which a format quantizes and dequantizes: a type, and what it calls its input, its scale and
    its zero point.

    Attributes:
        shapes: types of operations that change no number.
        sums: types of operations that add integers in units of the first one's steps (coremltools does so): what is
            dequantized of them are the integers, and the sum is quantized by so many of its steps.
        tolerance: how much two steps may differ that are the same.
        limits: the least and the most integer, as an operation that quantizes says.
        looked_up: types of operations that take rows of a table: what they take of integers are these integers.
        bias_behind: types of a product and of the addition behind it of its bias: in torch they are one.
    """

    quantize: tuple[str, str, str, str]
    dequantize: tuple[str, str, str, str]
    shapes: Collection[str]
    limits: Callable[[Node], tuple[int, int]]
    sums: Collection[str] = ()
    tolerance: float = 0.0
    looked_up: Collection[str] = ()
    bias_behind: tuple[str, str] | None = None


def quantized_values(graph: Graph, pair: Pair) -> Iterator[QuantizedValue]:
    """What a graph quantizes by operations of their own, one entry each time that it is dequantized.

    Raises:
        KeyError, ValueError: a form that no export writes: a scale that is computed, one scale per channel, a value
            that is dequantized by another step than it was quantized by.
    """
    types = {pair.quantize[0], pair.dequantize[0]}
    flow = Flow(graph, lambda node: node.type in pair.shapes, lambda node: node.type in types)
    steps: dict[Wire, float] = {}  # by the integers, in the units of the value as the network has it
    units: dict[Wire, float] = {}  # by the sum, how much of it there is in the file
    for number, node in enumerate(graph.nodes):
        if node.type == pair.quantize[0]:
            steps[Wire(number)] = number_of(node, pair.quantize[2]) / units.get(_source(node, pair.quantize), 1.0)
        elif node.type in pair.sums:
            units[Wire(number)] = _units(graph, node, pair, steps)
    backs = [number for number, node in enumerate(graph.nodes) if _restores(node, pair, steps)]
    for number in backs:
        back, restored = graph.nodes[number], Wire(number)
        integers = _source(back, pair.dequantize)
        assert integers.node is not None
        node = graph.nodes[integers.node]
        source = _source(node, pair.quantize)
        taking = flow.reached(restored)
        step = number_of(back, pair.dequantize[2]) / units.get(taking[0] if taking else restored, 1.0)
        zero = number_of(node, pair.quantize[3])
        if abs(step / steps[integers] - 1) > pair.tolerance or number_of(back, pair.dequantize[3]) != zero:
            raise Malformed(f"{graph.names[source]} is not dequantized by what it was quantized by")
        alone = sum(_source(graph.nodes[other], pair.dequantize) == integers for other in backs) == 1
        takers = tuple(
            graph.names[_with_bias(graph, wire, pair.bias_behind)] for wire in flow.taking(source, restored, alone)
        )
        named = graph.names[integers], graph.names[source], takers
        if not _exact(graph, node, pair):
            yield QuantizedValue(*named, steps[integers], int(zero), *pair.limits(node), step)


def _exact(graph: Graph, node: Node, pair: Pair) -> bool:
    """Whether an operation quantizes rows of a table of integers by the table's own step, which changes none."""
    look = graph.producer(_source(node, pair.quantize))
    table = None if look is None or look.type not in pair.looked_up else graph.producer(look.inputs[0][1])
    if table is None or table.type != pair.dequantize[0] or not isinstance(table.inputs[0][1], Constant):
        return False
    ends = zip(pair.quantize[2:], pair.dequantize[2:], strict=True)
    return all(number_of(node, ours) == number_of(table, theirs) for ours, theirs in ends)


def _restores(node: Node, pair: Pair, steps: Mapping[Wire, float]) -> bool:
    """Whether an operation dequantizes what is quantized as the file runs; weights are constants."""
    return node.type == pair.dequantize[0] and any(wire in steps for wire in wires(node))


def _source(node: Node, form: tuple[str, str, str, str]) -> Wire:
    """What an operation quantizes or dequantizes."""
    found = dict(node.inputs)[form[1]]
    if not isinstance(found, Wire):
        raise Malformed(f"{node.name} takes no computed value")
    return found


def number_of(node: Node, called: str) -> float:
    """A scale or zero point that stands in the file; no zero point is 0."""
    value: Input = dict(node.inputs).get(called)
    if value is None:
        return 0.0
    if not isinstance(value, Constant):
        raise Malformed(f"the {called} of {node.name} is computed")
    return float(value.values.item())


def _units(graph: Graph, node: Node, pair: Pair, steps: Mapping[Wire, float]) -> float:
    """How much of a sum there is in the file.

    Raises:
        ValueError: the units of the summands differ.
    """
    taken = [value for _, value in node.inputs if value is not None]
    restoring = [maker for value in taken if (maker := graph.producer(value)) and _restores(maker, pair, steps)]
    if len(restoring) < len(taken):
        return 1.0
    found = [number_of(maker, pair.dequantize[2]) / steps[_source(maker, pair.dequantize)] for maker in restoring]
    if max(found) > min(found) * (1 + pair.tolerance):
        names = " and ".join(graph.names[_source(maker, pair.dequantize)] for maker in restoring)
        raise Malformed(f"the summands {names} are of other units")
    return found[0]


def _with_bias(graph: Graph, result: Wire, types: tuple[str, str] | None) -> Wire:
    """What an operation computes; of a product whose bias alone is added behind it, that sum."""
    if types is None or result.node is None or graph.nodes[result.node].type != types[0]:
        return result
    users = [number for number, node in enumerate(graph.nodes) if result in wires(node)]
    added = len(users) == 1 and graph.nodes[users[0]].type == types[1] and len(wires(graph.nodes[users[0]])) == 1
    return Wire(users[0]) if added else result
