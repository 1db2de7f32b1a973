"""Graph of an artifact, in any format: operations, their inputs, and constants as they are stored.

Names, the order of operations or constants, and the file's encoding do not matter here. Operations are compared in the
order in which the outputs need them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

# Largest deviation of a stored float from the one that a conversion writes here. It is relative to the element's own
# size plus the size of a small element of its tensor. Folding in float64 leaves one rounding to float32, and one to
# float16; where elements cancel, the error is as large as their neighbours' errors.
ROUNDING = {"float32": 1e-6, "float64": 1e-6, "float16": 1e-3}
# Quantile of the absolute nonzero elements that is the size of a small one. A few huge elements dominate a mean.
SMALL = 0.25
# A tensor with 2 to FEW distinct values is a mask: it results from no sums, so nothing in it is rounded.
FEW = 3


@dataclass(frozen=True)
class Constant:
    """Elements stored in the file, in their stored type and shape. `name` is for messages only."""

    values: npt.NDArray[Any]
    name: str = ""


@dataclass(frozen=True)
class Wire:
    """Result `output` of operation `node` of `Graph.nodes`; if `node` is None, input `output` of the graph."""

    node: int | None
    output: int = 0


Input = Wire | Constant | None
"""An operation's input; None if an optional one is left out."""


@dataclass(frozen=True)
class Node:
    """One operation: its type with the domain, its inputs, and its settings.

    Attributes:
        inputs: by the format's names, in an order that never varies.
        settings: attributes that are not tensors; the graphs of branches are among them.
        name: for messages only.
    """

    type: str
    inputs: tuple[tuple[str, Input], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def wires(node: Node) -> list[Wire]:
    """Returns the computed inputs of an operation."""
    return [value for _, value in node.inputs if isinstance(value, Wire)]


@dataclass(frozen=True)
class Graph:
    """A whole artifact, or one of its functions.

    Attributes:
        inputs, outputs: name, type and shape of each in one text.
        results: producers of the outputs.
        settings: further contents of the file that decide how it runs.
        names: names of values in the file and its runtime; only for formats whose activations are traced.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    results: tuple[Input, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[Wire, str] = field(default_factory=dict, compare=False)

    def producer(self, value: Input) -> Node | None:
        """Returns the operation that computes a value. None for constants and inputs."""
        return self.nodes[value.node] if isinstance(value, Wire) and value.node is not None else None


@dataclass(frozen=True)
class Difference:
    """First difference of a graph from the expected one.

    Attributes:
        node: the operation that differs, or the expected graph's if it is missing; None if the interface differs.
        position: index of the operation plus 1 in the order of need; None if the interface differs.
        operations: number of operations of the expected graph; None if the interface differs.
        before: the preceding operation; None for the first one, or if the interface differs.
    """

    detail: str
    node: Node | None = None
    position: int | None = None
    operations: int | None = None
    before: Node | None = None

    def describe(self) -> str:
        """Returns one line for people."""
        if self.node is None or self.position is None:
            return self.detail
        return f"{self.node.type} {self.node.name!r} (operation {self.position} of {self.operations}): {self.detail}"


def first_difference(written: Graph, fresh: Graph) -> Difference | None:
    """Returns the first operation that differs from `fresh`, in the order in which the outputs need them. None if none
    differs.

    Operations that no output needs are ignored on both sides.
    """
    for what in ("inputs", "outputs"):
        have, want = getattr(written, what), getattr(fresh, what)
        if have != want:
            return Difference(f"its {what} are {', '.join(have) or 'none'}; a new conversion has {', '.join(want)}")
    changed = _changed_settings(written.settings, fresh.settings)
    if changed is not None:
        return Difference(changed)
    ours, theirs = needed(written), needed(fresh)
    # Position of each operation in the order of need, which identifies a wire independently of names.
    positions = {node: index for index, node in enumerate(ours)}, {node: index for index, node in enumerate(theirs)}
    count = len(theirs)
    for index, (a, b) in enumerate(zip_longest(ours, theirs)):
        before = written.nodes[ours[min(index, len(ours)) - 1]] if index else None
        if a is None or b is None:
            node = written.nodes[a] if a is not None else fresh.nodes[b] if b is not None else None
            absent = "is missing" if a is None else "is not in a new conversion"
            return Difference(absent, node, index + 1, count, before)
        changed = _changed(written.nodes[a], fresh.nodes[b], *positions)
        if changed is not None:
            return Difference(changed, written.nodes[a], index + 1, count, before)
    for output, have, want in zip(written.outputs, written.results, fresh.results, strict=True):
        changed = _changed_input(have, want, *positions)
        if changed is not None:
            return Difference(f"the output {output} {changed}")
    return None


def needed(graph: Graph) -> list[int]:
    """Returns the indices of the operations that outputs need, each after its own inputs, inputs in their order."""
    order: list[int] = []
    state: dict[int, bool] = {}  # False: its inputs are being visited, True: it is in `order`
    waiting = [result.node for result in reversed(graph.results) if isinstance(result, Wire)]
    while waiting:
        node = waiting[-1]
        if node is None or state.get(node):
            waiting.pop()
        elif node in state:
            waiting.pop()
            state[node] = True
            order.append(node)
        else:
            state[node] = False
            inputs = wires(graph.nodes[node])
            # A node that is being visited already would be a loop, which no format allows; it is not visited again.
            waiting += [wire.node for wire in reversed(inputs) if wire.node is not None and wire.node not in state]
    return order


def _changed(have: Node, want: Node, ours: Mapping[int, int], theirs: Mapping[int, int]) -> str | None:
    if have.type != want.type:
        return f"is {want.type} {want.name!r} in a new conversion"
    changed = _changed_settings(have.settings, want.settings)
    if changed is not None:
        return changed
    names = [name for name, _ in have.inputs], [name for name, _ in want.inputs]
    if names[0] != names[1]:
        return f"has the inputs {', '.join(names[0]) or 'none'}, not {', '.join(names[1]) or 'nothing'}"
    for (name, a), (_, b) in zip(have.inputs, want.inputs, strict=True):
        detail = _changed_input(a, b, ours, theirs)
        if detail is not None:
            return f"its {name} {detail}"
    return None


def _changed_settings(have: Mapping[str, Any], want: Mapping[str, Any]) -> str | None:
    for name in {**want, **have}:
        a, b = (_setting(settings.get(name)) for settings in (have, want))
        if isinstance(a, Graph) and isinstance(b, Graph):  # a branch
            difference = first_difference(a, b)
            if difference is not None:
                return f"its {name}: {difference.describe()}"
        elif a != b:
            return f"its {name} is {_told(a)}, not {_told(b)}"
    return None


def _setting(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _told(value: Any) -> str:
    return "left out" if value is None else repr(value)


def _changed_input(have: Input, want: Input, ours: Mapping[int, int], theirs: Mapping[int, int]) -> str | None:
    if isinstance(have, Constant) and isinstance(want, Constant):
        return changed_constant(have.values, want.values)
    if isinstance(have, Wire) and isinstance(want, Wire):
        return None if _place(have, ours) == _place(want, theirs) else "comes from another operation"
    return None if have is want is None else f"is {_kind(have)}, not {_kind(want)}"


def _place(wire: Wire, numbers: Mapping[int, int]) -> tuple[int, int]:
    return -1 if wire.node is None else numbers[wire.node], wire.output


def _kind(value: Input) -> str:
    return "left out" if value is None else "a constant" if isinstance(value, Constant) else "computed"


def changed_constant(have: npt.NDArray[Any], want: npt.NDArray[Any]) -> str | None:
    """Describes how elements differ from the expected ones by more than rounding. None if they do not.

    Integers and masks are compared exactly. Floats are compared element by element, since one wrong row is invisible in
    a norm.
    """
    if have.dtype != want.dtype or have.shape != want.shape:
        return f"is {have.dtype} {list(have.shape)}, not {want.dtype} {list(want.shape)}"
    if np.array_equal(have, want):
        return None
    few = f"is {_short(have)}, not {_short(want)}" if want.size <= 4 else None
    if want.dtype.kind != "f":
        return few or f"differs in {int((have != want).sum()):,} of {want.size:,} elements"
    a, b = have.astype(np.float64), want.astype(np.float64)
    share = ROUNDING.get(want.dtype.name, 1e-6)
    finite = np.isfinite(b)
    sizes = np.abs(b[finite & (b != 0)])
    scale = float(np.quantile(sizes, SMALL)) if len(sizes) else 0.0
    mask = b.size > FEW and 2 <= len(np.unique(b)) <= FEW
    with np.errstate(invalid="ignore"):
        off = ~((a == b) | (not mask) & (np.abs(a - b) <= share * (np.abs(b) + scale)))
    if not off.any():
        return None
    if few is not None:
        return few
    with np.errstate(invalid="ignore"):
        size = float(np.linalg.norm(b[finite])) or float(np.finfo(np.float64).tiny)
        relative = float(np.linalg.norm((a - b)[finite])) / size
    return f"is off by {relative:.1e} (relative), in {int(off.sum()):,} of {want.size:,} elements"


def _short(array: npt.NDArray[Any]) -> str:
    values: Iterator[Any] = iter(array.reshape(-1)[:4].tolist())
    text = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)
    return text if array.size == 1 else f"[{text}]"
