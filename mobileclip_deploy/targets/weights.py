"""Weights of an artifact, located in its graph, each as one weight however it was written.

A format provides a small table: the operations with weights, their inputs that hold weights, and how these are
restored.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import reraising
from mobileclip_deploy.targets.depthwise import KERNEL, in_bands, in_turn, joined
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Wire, needed, wires
from mobileclip_deploy.targets.grids.decode import StoredWeight


class View:
    """A graph, with the producers and consumers of its values. `order` lists the operations that outputs need."""

    def __init__(self, graph: Graph) -> None:
        self.nodes, self.order, self.producer = graph.nodes, needed(graph), graph.producer
        self._users = defaultdict[int, list[int]](list)
        for index in self.order:
            for wire in dict.fromkeys(wires(self.nodes[index])):
                if wire.node is not None:
                    self._users[wire.node].append(index)

    def consumers(self, number: int) -> list[int]:
        """Returns the operations that take an operation's results."""
        return self._users[number]


def numbers_of(value: Input) -> Array | None:
    """Returns the elements of a constant. None for a computed value."""
    return value.values if isinstance(value, Constant) else None


@dataclass(frozen=True)
class Depthwise:
    """Names of the operations that together make up a large depthwise convolution in a format.

    These are bands of rows that are added up, and every other channel, whose results are concatenated. `dilation` is
    the setting along the height. `between`: operation between a convolution and the concatenation, if there is one.
    """

    convolution: str
    dilation: str
    addition: str
    concatenation: str
    between: str = ""


@dataclass(frozen=True)
class WeightTable:
    """Positions of a format's weights.

    Attributes:
        places: type of an operation, or its part before the first full stop, and the inputs that may hold its weight.
        stored: returns the weight of an operation in torch's layout, by its index and the input's name. None for
            computed values and other constants. Raises ValueError for a form that no export writes.
        depthwise: set for formats that may split one convolution into several.
    """

    places: Mapping[str, tuple[str, ...]]
    stored: Callable[[View, int, str], StoredWeight | None]
    depthwise: Depthwise | None = None


def read_weights(graph: Graph, table: WeightTable, path: Path) -> tuple[StoredWeight, ...]:
    """Returns the weights of convolutions, products and tables that the outputs need, once for each operation that
    takes them.

    Raises:
        InvalidInput: a weight has a form that no export writes.
    """
    view, weights = View(graph), dict[tuple[int, str], StoredWeight]()
    with reraising(f"{path}: a weight in a form that exports never write", ValueError, KeyError):
        for index in view.order:
            kind = view.nodes[index].type
            for name in table.places.get(kind, table.places.get(kind.partition(".")[0], ())):
                stored = table.stored(view, index, name)
                if stored is not None and stored.values.ndim > 1:
                    weights[index, name] = stored
    if table.depthwise is not None:
        _assemble(view, table.depthwise, weights)
    return tuple(weights.values())


def _assemble(view: View, words: Depthwise, found: dict[tuple[int, str], StoredWeight]) -> None:
    """Joins, in place, the weights of convolutions that were split. The result replaces the first part."""
    results = {Wire(key[0]): key for key in found if view.nodes[key[0]].type == words.convolution}
    added = [index for index in view.order if view.nodes[index].type == words.addition]
    sums = {Wire(index): wires(view.nodes[index]) for index in added}
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
    for index in view.order:
        inside = wires(view.nodes[index]) if words.between and view.nodes[index].type == words.between else []
        if inside and inside[0] in results:
            results[Wire(index)] = results[inside[0]]
    for node in (view.nodes[index] for index in view.order):
        joint = [results.get(wire) for wire in wires(node)] if node.type.startswith(words.concatenation) else []
        keys = [key for key in dict.fromkeys(joint) if key is not None and key in found]
        if len(keys) > 1 and len(keys) == len(joint) and len({found[key].values.shape for key in keys}) == 1:
            found[keys[0]] = in_turn([found.pop(key) for key in keys])
