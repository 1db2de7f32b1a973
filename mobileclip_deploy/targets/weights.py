"""The weights that stand in an artifact, found in its graph, each as one weight however it was written.

A format gives a small table: which operations have weights, among which of their inputs, and how these are restored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import refusing
from mobileclip_deploy.targets.depthwise import KERNEL, in_bands, in_turn, joined
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Wire, needed, wires
from mobileclip_deploy.targets.grids.decode import StoredWeight


class View:
    """A graph, with what computes and what takes its values. `order`: the operations that outputs need."""

    def __init__(self, graph: Graph) -> None:
        self.nodes, self.order, self.producer = graph.nodes, needed(graph), graph.producer
        self._users = defaultdict[int, list[int]](list)
        for number in self.order:
            for wire in dict.fromkeys(wires(self.nodes[number])):
                if wire.node is not None:
                    self._users[wire.node].append(number)

    def consumers(self, number: int) -> list[int]:
        """The operations that take what one computes."""
        return self._users[number]


def numbers_of(value: Input) -> Array | None:
    """The numbers of a constant; None for what is computed."""
    return value.values if isinstance(value, Constant) else None


@dataclass(frozen=True)
class Depthwise:
    """What a format calls the operations that a large depthwise convolution is written with: bands of rows that are
    added up, and every other channel, whose results are laid side by side. `dilation`: the setting along the height."""

    convolution: str
    dilation: str
    addition: str
    concatenation: str


@dataclass(frozen=True)
class WeightTable:
    """Where the weights of a format stand.

    Attributes:
        places: type of an operation, or what is before its first full stop -> the inputs that may hold its weight.
        stored: the weight of an operation in torch's layout, by its number and the name of the input; None for what is
            computed and what is no weight. Raises ValueError for a form that no export writes.
        depthwise: of formats in which one convolution may be several.
    """

    places: Mapping[str, tuple[str, ...]]
    stored: Callable[[View, int, str], StoredWeight | None]
    depthwise: Depthwise | None = None


def read_weights(graph: Graph, table: WeightTable, path: Path) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, products and tables that the outputs need, once for each operation that takes them.

    Raises:
        InvalidInput: a weight is in a form that no export writes.
    """
    view, found = View(graph), dict[tuple[int, str], StoredWeight]()
    with refusing(f"{path}: a weight in a form that no export writes", ValueError, KeyError):
        for number in view.order:
            kind = view.nodes[number].type
            for name in table.places.get(kind, table.places.get(kind.partition(".")[0], ())):
                stored = table.stored(view, number, name)
                if stored is not None and stored.values.ndim > 1:
                    found[number, name] = stored
    if table.depthwise is not None:
        _assemble(view, table.depthwise, found)
    return tuple(found.values())


def _assemble(view: View, words: Depthwise, found: dict[tuple[int, str], StoredWeight]) -> None:
    """Put together, in place, the weights of convolutions that were taken apart; each stands in its first part's
    place."""
    results = {Wire(key[0]): key for key in found if view.nodes[key[0]].type == words.convolution}
    added = [number for number in view.order if view.nodes[number].type == words.addition]
    sums = {Wire(number): wires(view.nodes[number]) for number in added}
    for total, summands in sums.items():  # (first + second) + third
        bands = {}
        parts = [results.get(part) for summand in summands for part in sums.get(summand, [summand])]
        for key in (key for key in parts if key is not None and key in found):
            *_, rows, columns = found[key].values.shape  # [O, 1, rows, columns]
            if columns == KERNEL:
                bands[view.nodes[key[0]].settings[words.dilation], rows] = key
        for keys in in_bands([bands]):
            if len({len(found[key].values) for key in keys}) == 1:
                found[keys[0]] = joined([found.pop(key) for key in keys])
                results[total] = keys[0]
    for node in (view.nodes[number] for number in view.order):
        beside = [results.get(wire) for wire in wires(node)] if node.type.startswith(words.concatenation) else []
        keys = [key for key in dict.fromkeys(beside) if key is not None and key in found]
        if len(keys) > 1 and len(keys) == len(beside) and len({found[key].values.shape for key in keys}) == 1:
            found[keys[0]] = in_turn([found.pop(key) for key in keys])
