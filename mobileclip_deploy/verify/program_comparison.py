"""Two programs side by side: the first operation that one has and the other has not, or has otherwise.

What is written is compared as graphs (see `targets.graph`), whatever operations are called and in whatever order they
stand; where inputs are given, what each operation computes on them is compared too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil import Computed, Precision, Program
from mobileclip_deploy.targets import Artifact
from mobileclip_deploy.targets.graph import Graph, first_difference, needed

VALUE_BOUND = 1e-4  # relative, of a result: two evaluations of the same graph here agree to the bit


class Explanation(BaseModel, frozen=True):
    """What was found for one tower.

    `finding`: `unreadable`; `interface` (an input or output is not what a conversion gives); `operation` (this one
    is another, has other parameters or computes something else: the first such); `precision` (the same graph and
    weights; this operation is the first whose result precision moves by more than `bound`); `placement` (where a device
    that it was measured on meant to run it); `none`.
    `relative` is the deviation of its result, `before` the last operation that still agreed, `position` its number in
    the order in which the outputs need them.
    """

    tower: str
    finding: Literal["unreadable", "interface", "operation", "precision", "placement", "none"]
    detail: str
    type: str | None = None
    operation: str | None = None
    position: int | None = None
    operations: int | None = None
    before: str | None = None
    relative: float | None = None
    bound: float | None = None

    def describe(self) -> str:
        """One line for people."""
        moved = f"; its result deviates by {self.relative:.1e}" if self.relative is not None else ""
        return f"{self.tower} tower: {self.where()}{moved}"

    def where(self) -> str:
        """Which operation, if it is one, and what of it."""
        if not self.type:
            return self.detail
        return f"{self.type} {self.operation!r} (operation {self.position} of {self.operations}): {self.detail}"


@dataclass(frozen=True)
class Followed:
    """An artifact as a program that can be evaluated, and as a graph whose operation of each number is the program's.

    The program may have been loaded without evaluation where no values are asked for.
    """

    program: Program
    graph: Graph

    @classmethod
    def read(cls, artifact: Artifact) -> Self:
        """An artifact of a target that is `readable`.

        Raises:
            InvalidInput: the file is damaged.
        """
        program, graph = artifact.program, artifact.graph
        assert program is not None  # `readable` says so
        assert graph is not None
        return cls(program.prepared(), graph)

    @cached_property
    def order(self) -> list[int]:
        """The numbers of its operations in the order in which the outputs need them."""
        return needed(self.graph)

    @property
    def precision(self) -> Precision:
        """What its results are declared in."""
        results = (result for operation in self.program.operations for result in operation.outputs)
        return "float16" if any(result.dtype == "float16" for result in results) else "float32"

    def trace(self, feed: Mapping[str, Any], precision: Precision | None = None) -> Iterator[tuple[int, Computed]]:
        """What each operation that is needed computes, with its place in `order`, in the program's own order.

        Raises:
            InvalidInput: the program contradicts itself.
        """
        places = {number: place for place, number in enumerate(self.order)}
        for number, computed in enumerate(self.program.trace(feed, precision or self.precision)):
            if number in places:
                yield places[number], computed


def compare_programs(tower: str, written: Followed, fresh: Followed, feeds: Sequence[Mapping[str, Any]]) -> Explanation:
    """The first difference between a written program and the one that it should be.

    Args:
        tower: for the report.
        written: the program under suspicion.
        fresh: the program that it should be.
        feeds: inputs for both; the earliest operation that deviates on any of them counts.
    """
    difference = first_difference(written.graph, fresh.graph)
    if difference is not None and difference.node is None:
        return Explanation(tower=tower, finding="interface", detail=difference.describe())
    # Up to here operations correspond; the one that differs too, unless one side has another or none there.
    parted = len(fresh.order) if difference is None else (difference.position or 1) - 1
    moved = min((hit for feed in feeds for hit in _deviations(written, fresh, feed, parted)), default=None)
    if moved is None and difference is None:
        return Explanation(tower=tower, finding="none", detail="the same operations and weights as a fresh conversion")
    if difference is None or (moved is not None and moved[0] < parted):
        assert moved is not None
        place, detail = moved[0], "computes something else"
    else:
        place, detail = parted, difference.detail
    node = difference.node if difference is not None and place == parted else written.graph.nodes[written.order[place]]
    assert node is not None
    return Explanation(
        tower=tower,
        finding="operation",
        detail=detail,
        type=node.type,
        operation=node.name,
        position=place + 1,
        operations=len(fresh.order),
        before=written.graph.nodes[written.order[place - 1]].name if place else None,
        relative=moved[1] if moved is not None and moved[0] == place else None,
        bound=VALUE_BOUND,
    )


def relative_deviation(have: Any, want: Any) -> float:
    """Deviation relative to the norm; infinite where either side is not finite and they are not equal."""
    a, b = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return relative if np.isfinite(relative) else float("inf")


def _deviations(written: Followed, fresh: Followed, feed: Mapping[str, Any], last: int) -> Iterator[tuple[int, float]]:
    """Operations up to the place `last` whose results deviate beyond the bound, each with by how much."""
    waiting: tuple[dict[int, Computed], ...] = ({}, {})  # what only one side has computed so far
    pairs = zip(written.trace(feed, fresh.precision), fresh.trace(feed), strict=False)
    try:
        for steps in pairs:
            for held, (place, computed) in zip(waiting, steps, strict=True):
                if place <= last:
                    held[place] = computed
            for place in waiting[0].keys() & waiting[1].keys():
                have, want = (held.pop(place) for held in waiting)
                if have.operation.type == want.operation.type:
                    relative = max(map(relative_deviation, have.values.values(), want.values.values()))
                    if relative > VALUE_BOUND:
                        yield place, relative
    except InvalidInput:
        return  # the written program does not run to its end: what differs in it has been found without running
