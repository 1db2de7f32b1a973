"""Where a Core ML artifact parts from its checkpoint: the first operation that differs from a fresh conversion.

Where none does, precision is what costs, and the artifact is compared with its float32 twin instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.inspect.linting import program_input
from mobileclip_deploy.mil import Operation
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.verify.program_comparison import Explanation, Followed, compare_programs, relative_deviation
from mobileclip_deploy.verify.subject import Subject, lacks_to_convert

__all__ = ["Explanation", "drift", "explain_subject"]

DRIFT_BOUND = 1e-2  # relative, of a result at reduced precision
INPUTS = 3


def explain_subject(subject: Subject) -> tuple[Explanation, ...]:
    """Explain every tower of a bundle: where it is another graph, or, of a program that can be followed operation by
    operation (Core ML), where what is computed parts.

    Raises:
        UsageError: its target's artifacts cannot be read, its checkpoint is not at hand, or the images it was
            calibrated on are not given.
    """
    manifest = subject.bundle.manifest
    found = []
    for tower in manifest.towers:
        target = subject.target
        if subject.source is None:
            raise UsageError(f"explaining {subject.needs_checkpoint}")
        if (lacks := lacks_to_convert(subject, tower)) is not None:
            raise UsageError(f"explaining the {tower} tower {lacks}")
        subject.progress(f"{subject.name}: {tower} tower, a fresh conversion to compare with")
        found.append((_explain if target.abilities.readable else _differing)(subject, tower, target))
    return tuple(found)


def _differing(subject: Subject, tower: TowerName, target: Target) -> Explanation:
    """The first operation that is not as in a fresh conversion."""
    try:
        written = subject.artifact(tower).graph
    except InvalidInput as error:
        return Explanation(tower=tower, finding="unreadable", detail=str(error))
    fresh = target.open(subject.converted(tower)).graph
    if written is None or fresh is None:
        raise UsageError(f"{target.title} artifacts cannot be read operation by operation")
    difference = first_difference(written, fresh)
    if difference is None:
        return Explanation(tower=tower, finding="none", detail="the same operations and weights as a fresh conversion")
    if difference.node is None:
        return Explanation(tower=tower, finding="interface", detail=difference.describe())
    return Explanation(
        tower=tower,
        finding="operation",
        detail=difference.detail,
        type=difference.node.type,
        operation=difference.node.name,
        position=difference.position,
        operations=difference.operations,
        before=difference.before.name if difference.before is not None else None,
    )


def _explain(subject: Subject, tower: TowerName, target: Target) -> Explanation:
    inputs = subject.evidence.reference.inputs
    try:
        written = Followed.read(subject.artifact(tower))
    except InvalidInput as error:
        return Explanation(tower=tower, finding="unreadable", detail=str(error))
    fresh = Followed.read(target.open(subject.converted(tower)))
    feeds = [program_input(fresh.program, inputs, index) for index in range(min(INPUTS, len(inputs.of(tower))))]
    found = compare_programs(tower, written, fresh, feeds)
    if found.finding != "none" or subject.bundle.manifest.towers[tower].precision == "fp32":
        return found
    return drift(tower, written, fresh, Followed.read(target.open(subject.converted(tower, "fp32"))), feeds)


def drift(
    tower: str, written: Followed, fresh: Followed, twin: Followed, feeds: Sequence[Mapping[str, Any]]
) -> Explanation:
    """Where precision costs: the first operation whose result is further from the float32 twin's than `DRIFT_BOUND`.

    Args:
        written: the artifact, which says the same as `fresh`, if in other words.
        fresh: a conversion, whose operations are called as those of the twin, but for a suffix of float16's.
        twin: the float32 conversion.
    """
    worst: dict[int, float] = {}
    for feed in feeds:
        exact = {_plain(step.operation): step.values for _, step in twin.trace(feed)}
        for place, step in written.trace(feed):
            values = list(step.values.values())
            wanted = list(exact.get(_plain(fresh.program.operations[fresh.order[place]]), {}).values())
            if step.operation.type != "cast" and list(map(np.shape, wanted)) == list(map(np.shape, values)):
                worst[place] = max(worst.get(place, 0.0), max(map(relative_deviation, values, wanted)))
    beyond = min((place for place, relative in worst.items() if relative > DRIFT_BOUND), default=None)
    if beyond is None:
        largest = max(worst.values(), default=0.0)
        text = f"the same graph and weights as a fresh conversion; precision moves no result by over {largest:.1e}"
        return Explanation(tower=tower, finding="none", detail=text)
    operations = [written.program.operations[number] for number in written.order]
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


def _plain(operation: Operation) -> tuple[str, str]:
    return operation.type, operation.name.removesuffix("_cast_fp16").removesuffix("_to_fp16")
