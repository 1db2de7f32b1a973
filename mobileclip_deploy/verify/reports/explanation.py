"""Search for the first operation of an artifact that differs from a fresh conversion.

The two graphs are compared first (see `targets.graph`), whatever the names and the order of their operations. A Core ML
program is also run on inputs, and the result of each operation is compared. If nothing differs, the deviation is due to
precision. The program is then compared with its float32 twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.targets import Artifact
from mobileclip_deploy.targets.graph import Graph, first_difference, needed
from mobileclip_deploy.verify.inspect.linting import program_input
from mobileclip_deploy.verify.subject import Subject, TowerProof

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil import Computed, Precision, Program

VALUE_BOUND = 1e-4  # relative, of a result: two evaluations of the same graph here agree to the bit
DRIFT_BOUND = 1e-2  # relative, of a result at reduced precision
INPUTS = 3


class Explanation(BaseModel, frozen=True):
    """Result of the search for one tower.

    `finding`: `unreadable`; `interface` (an input or output differs from that of a conversion); `operation` (the first
    operation with another type, other parameters or another result); `precision` (same graph and weights; the first
    operation whose result precision moves by more than `bound`); `none`.

    `relative` is the deviation of the operation's result, `before` the last operation that agreed. `position` is the
    operation's number in the order in which the outputs need the operations.
    """

    tower: str
    finding: Literal["unreadable", "interface", "operation", "precision", "none"]
    detail: str
    type: str | None = None
    operation: str | None = None
    position: int | None = None
    operations: int | None = None
    before: str | None = None
    relative: float | None = None
    bound: float | None = None

    def describe(self) -> str:
        """Returns one line for people."""
        moved = f"; its result deviates by {self.relative:.1e}" if self.relative is not None else ""
        return f"{self.tower} tower: {self.where()}{moved}"

    def where(self) -> str:
        """Returns the operation and the difference in words, or the detail if there is no operation."""
        if not self.type:
            return self.detail
        return f"{self.type} {self.operation!r} (operation {self.position} of {self.operations}): {self.detail}"


@dataclass(frozen=True)
class Followed:
    """An artifact as a graph and as a program with the same numbering of operations. The program is None if the format
    cannot be evaluated here."""

    program: Program | None
    graph: Graph

    @classmethod
    def read(cls, artifact: Artifact) -> Self:
        """Reads an artifact.

        Raises:
            InvalidInput: the file is damaged.
            UsageError: its format cannot be read.
        """
        program, graph = artifact.program, artifact.graph
        if graph is None:
            raise UsageError(f"{artifact.path.name}: files of its format cannot be read operation by operation")
        return cls(None if program is None else program.prepared(), graph)

    @cached_property
    def order(self) -> list[int]:
        """Indices of its operations in the order in which the outputs need them."""
        return needed(self.graph)

    def trace(self, feed: Mapping[str, Any], precision: Precision | None = None) -> Iterator[tuple[int, Computed]]:
        """Yields the result of each needed operation with its position in `order`, in the program's own order.

        Raises:
            InvalidInput: the program contradicts itself.
        """
        assert self.program is not None
        positions = {index: position for position, index in enumerate(self.order)}
        for index, computed in enumerate(self.program.trace(feed, precision or self.program.arithmetic)):
            if index in positions:
                yield positions[index], computed


def explain_subject(subject: Subject) -> tuple[Explanation, ...]:
    """Explains every tower of a bundle.

    Raises:
        UsageError: the target's artifacts cannot be read, or the checkpoint or the calibration images are missing.
    """
    explanations = []
    for tower in subject.towers.values():
        if (missing := tower.missing_for_conversion()) is not None:
            raise UsageError(f"explaining the {tower.name} tower {missing}")
        tower.announce("a fresh conversion to compare with")
        explanations.append(_explain(tower))
    return tuple(explanations)


def _explain(tower: TowerProof) -> Explanation:
    target, inputs = tower.subject.target, tower.subject.evidence.reference.inputs
    try:
        written = Followed.read(tower.artifact)
    except InvalidInput as error:
        return Explanation(tower=tower.name, finding="unreadable", detail=str(error))
    fresh = Followed.read(target.open(tower.convert()))
    if fresh.program is None:
        return compare_programs(tower.name, written, fresh, ())
    feeds = [program_input(fresh.program, inputs, index) for index in range(min(INPUTS, len(tower.inputs)))]
    explanation = compare_programs(tower.name, written, fresh, feeds)
    if explanation.finding != "none" or tower.precision == "fp32":
        return explanation
    return drift(tower.name, written, fresh, Followed.read(target.open(tower.convert("fp32"))), feeds)


def compare_programs(tower: str, written: Followed, fresh: Followed, feeds: Sequence[Mapping[str, Any]]) -> Explanation:
    """Returns the first difference between a written program and a fresh conversion.

    Args:
        tower: for the report.
        written: the program to examine.
        fresh: the conversion to compare it with.
        feeds: inputs for both; the earliest operation that deviates on any of them counts.
    """
    difference = first_difference(written.graph, fresh.graph)
    if difference is not None and difference.node is None:
        return Explanation(tower=tower, finding="interface", detail=difference.describe())
    # Up to here operations correspond. The different operation corresponds too, unless one side has another one or
    # none.
    parted = len(fresh.order) if difference is None else (difference.position or 1) - 1
    moved = min((deviation for feed in feeds for deviation in _deviations(written, fresh, feed, parted)), default=None)
    if moved is None and difference is None:
        return Explanation(tower=tower, finding="none", detail="the same operations and weights as a fresh conversion")
    if difference is None or (moved is not None and moved[0] < parted):
        assert moved is not None
        position, detail = moved[0], "computes something else"
    else:
        position, detail = parted, difference.detail
    node = (
        difference.node
        if difference is not None and position == parted
        else written.graph.nodes[written.order[position]]
    )
    assert node is not None
    return Explanation(
        tower=tower,
        finding="operation",
        detail=detail,
        type=node.type,
        operation=node.name,
        position=position + 1,
        operations=len(fresh.order),
        before=written.graph.nodes[written.order[position - 1]].name if position else None,
        relative=moved[1] if moved is not None and moved[0] == position else None,
        bound=VALUE_BOUND if feeds else None,
    )


def _deviations(written: Followed, fresh: Followed, feed: Mapping[str, Any], last: int) -> Iterator[tuple[int, float]]:
    """Yields the operations up to position `last` whose results deviate beyond the bound, each with its deviation."""
    assert fresh.program is not None
    waiting: tuple[dict[int, Computed], ...] = ({}, {})  # results that only one side has computed so far
    pairs = zip(written.trace(feed, fresh.program.arithmetic), fresh.trace(feed), strict=False)
    try:
        for steps in pairs:
            for results, (position, computed) in zip(waiting, steps, strict=True):
                if position <= last:
                    results[position] = computed
            for position in waiting[0].keys() & waiting[1].keys():
                have, want = (results.pop(position) for results in waiting)
                if have.operation.type == want.operation.type:
                    relative = max(map(relative_deviation, have.values.values(), want.values.values()))
                    if relative > VALUE_BOUND:
                        yield position, relative
    except InvalidInput:
        return  # the written program fails before its end: the comparison of the graphs has found the difference


def drift(
    tower: str, written: Followed, fresh: Followed, twin: Followed, feeds: Sequence[Mapping[str, Any]]
) -> Explanation:
    """Finds the first operation whose result deviates from that of the float32 twin by more than `DRIFT_BOUND`.

    Args:
        written: the artifact, whose graph and weights equal those of `fresh`.
        fresh: a conversion, whose operations have the names of the twin's, apart from a float16 suffix.
        twin: the float32 conversion.
    """
    operations = [written.graph.nodes[index] for index in written.order]
    names = [_plain(fresh.graph.nodes[index].name) for index in fresh.order]
    worst: dict[int, float] = {}
    for feed in feeds:
        exact = {(step.operation.type, _plain(step.operation.name)): step.values for _, step in twin.trace(feed)}
        for position, step in written.trace(feed):
            values = list(step.values.values())
            expected = list(exact.get((step.operation.type, names[position]), {}).values())
            if step.operation.type != "cast" and list(map(np.shape, expected)) == list(map(np.shape, values)):
                worst[position] = max(worst.get(position, 0.0), max(map(relative_deviation, values, expected)))
    beyond = min((position for position, relative in worst.items() if relative > DRIFT_BOUND), default=None)
    if beyond is None:
        largest = max(worst.values(), default=0.0)
        text = f"the same graph and weights as a fresh conversion; precision moves no result by over {largest:.1e}"
        return Explanation(tower=tower, finding="none", detail=text)
    return Explanation(
        tower=tower,
        finding="precision",
        detail=f"the same graph and weights as a fresh conversion; precision first costs over {DRIFT_BOUND:g} here",
        type=operations[beyond].type,
        operation=operations[beyond].name,
        position=beyond + 1,
        operations=len(operations),
        before=operations[beyond - 1].name if beyond else None,
        relative=worst[beyond],
        bound=DRIFT_BOUND,
    )


def _plain(name: str) -> str:
    return name.removesuffix("_cast_fp16").removesuffix("_to_fp16")


def relative_deviation(have: Any, want: Any) -> float:
    """Returns the deviation relative to the norm; infinite if either side is not finite and both differ."""
    a, b = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return relative if np.isfinite(relative) else float("inf")
