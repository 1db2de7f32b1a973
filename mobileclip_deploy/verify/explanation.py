"""Where an artifact parts from its checkpoint: the first operation that differs from a fresh conversion.

What is written is compared as graphs (see `targets.graph`), whatever operations are called and in whatever order they
stand. A Core ML program is followed on inputs, too: what each of its operations computes is compared. Where nothing
differs, precision is what costs, and the program is compared with its float32 twin instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Artifact
from mobileclip_deploy.targets.graph import Graph, first_difference, needed
from mobileclip_deploy.targets.mil import Computed, Precision, Program
from mobileclip_deploy.verify.inspect.linting import program_input
from mobileclip_deploy.verify.subject import Subject, lacks_to_convert

VALUE_BOUND = 1e-4  # relative, of a result: two evaluations of the same graph here agree to the bit
DRIFT_BOUND = 1e-2  # relative, of a result at reduced precision
INPUTS = 3


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
    """An artifact as a graph, and as a program whose operation of each number is the graph's; None where its format
    cannot be evaluated here."""

    program: Program | None
    graph: Graph

    @classmethod
    def read(cls, artifact: Artifact) -> Self:
        """Read an artifact.

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
        """The numbers of its operations in the order in which the outputs need them."""
        return needed(self.graph)

    def trace(self, feed: Mapping[str, Any], precision: Precision | None = None) -> Iterator[tuple[int, Computed]]:
        """What each operation that is needed computes, with its place in `order`, in the program's own order.

        Raises:
            InvalidInput: the program contradicts itself.
        """
        assert self.program is not None
        places = {number: place for place, number in enumerate(self.order)}
        for number, computed in enumerate(self.program.trace(feed, precision or self.program.arithmetic)):
            if number in places:
                yield places[number], computed


def explain_subject(subject: Subject) -> tuple[Explanation, ...]:
    """Explain every tower of a bundle.

    Raises:
        UsageError: its target's artifacts cannot be read, its checkpoint is not at hand, or the images it was
            calibrated on are not given.
    """
    found = []
    for tower in subject.bundle.manifest.towers:
        if (lacks := lacks_to_convert(subject, tower)) is not None:
            raise UsageError(f"explaining the {tower} tower {lacks}")
        subject.progress(f"{subject.name}: {tower} tower, a fresh conversion to compare with")
        found.append(_explain(subject, tower))
    return tuple(found)


def _explain(subject: Subject, tower: TowerName) -> Explanation:
    target, inputs = subject.target, subject.evidence.reference.inputs
    try:
        written = Followed.read(subject.artifact(tower))
    except InvalidInput as error:
        return Explanation(tower=tower, finding="unreadable", detail=str(error))
    fresh = Followed.read(target.open(subject.converted(tower)))
    if fresh.program is None:
        return compare_programs(tower, written, fresh, ())
    feeds = [program_input(fresh.program, inputs, index) for index in range(min(INPUTS, len(inputs.of(tower))))]
    found = compare_programs(tower, written, fresh, feeds)
    if found.finding != "none" or subject.precision(tower) == "fp32":
        return found
    return drift(tower, written, fresh, Followed.read(target.open(subject.converted(tower, "fp32"))), feeds)


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
        bound=VALUE_BOUND if feeds else None,
    )


def _deviations(written: Followed, fresh: Followed, feed: Mapping[str, Any], last: int) -> Iterator[tuple[int, float]]:
    """Operations up to the place `last` whose results deviate beyond the bound, each with by how much."""
    assert fresh.program is not None
    waiting: tuple[dict[int, Computed], ...] = ({}, {})  # what only one side has computed so far
    pairs = zip(written.trace(feed, fresh.program.arithmetic), fresh.trace(feed), strict=False)
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


def drift(
    tower: str, written: Followed, fresh: Followed, twin: Followed, feeds: Sequence[Mapping[str, Any]]
) -> Explanation:
    """Where precision costs: the first operation whose result is further from the float32 twin's than `DRIFT_BOUND`.

    Args:
        written: the artifact, which says the same as `fresh`, if in other words.
        fresh: a conversion, whose operations are called as those of the twin, but for a suffix of float16's.
        twin: the float32 conversion.
    """
    operations = [written.graph.nodes[number] for number in written.order]
    called = [_plain(fresh.graph.nodes[number].name) for number in fresh.order]
    worst: dict[int, float] = {}
    for feed in feeds:
        exact = {(step.operation.type, _plain(step.operation.name)): step.values for _, step in twin.trace(feed)}
        for place, step in written.trace(feed):
            values = list(step.values.values())
            wanted = list(exact.get((step.operation.type, called[place]), {}).values())
            if step.operation.type != "cast" and list(map(np.shape, wanted)) == list(map(np.shape, values)):
                worst[place] = max(worst.get(place, 0.0), max(map(relative_deviation, values, wanted)))
    beyond = min((place for place, relative in worst.items() if relative > DRIFT_BOUND), default=None)
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
    """Deviation relative to the norm; infinite where either side is not finite and they are not equal."""
    a, b = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return relative if np.isfinite(relative) else float("inf")
