"""The check of what a compiler makes of an artifact for one place of a device, where the user asks for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.artifact import Compiled
from mobileclip_deploy.verify.subject import Subject

INPUTS = 4
"""So many of the inputs are asked for: a GPU that is made of software is slow."""
NAMED = 3
HALF, LARGEST = float(np.finfo(np.float16).max), float(np.finfo(np.float32).max)


def require_place(target: Target, place: str) -> None:
    """Refuse a place that a format is not compiled for here.

    Raises:
        UsageError: see there.
    """
    known = target.abilities.compiled_places
    if place not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UsageError(f"`place` {place!r}: {target.title} cannot be compiled for that on this machine; {has}")


def check_place(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """Whether every operation runs at the place, and what it answers.

    A GPU computes in float16 whatever the artifact stores: no value may be larger than that holds, and answers are
    held to its gate, or to a looser one that the precision has.
    """
    place = subject.place
    assert place is not None
    inputs, answers = subject.evidence.reference.inputs.of(tower)[:INPUTS], f"{place} answers"
    try:
        found = subject.artifact(tower).compiled(place, inputs)
    except NotRun as error:
        yield from (Check.not_run(step, tower, str(error)) for step in (place, answers))
        return
    on_cpu = found.operations if found.refusal is not None else len(found.left)
    yield Check(
        step=place,
        tower=tower,
        status="failed" if found.left or found.refusal is not None else "passed",
        engine=found.engine,
        gate="every operation",
        figures={"operations": found.operations, "on_cpu": on_cpu},
        detail=found.refusal or _told(found),
    )
    if found.largest is not None:
        yield _range(found, tower, f"{place} range")
    if found.answers is None:
        yield Check.not_run(answers, tower, found.silence or "it gave no answers")
        return
    precision = subject.precision(tower)
    bound = subject.gates.shipped("fp16" if precision == "fp32" else precision, None, bool(subject.head.names))
    wanted = subject.wanted(tower)[: len(found.answers)]
    yield Check.of_answers(answers, tower, wanted, found.answers, bound, found.engine)


def _range(found: Compiled, tower: TowerName, step: str) -> Check:
    """Whether what is computed on the inputs, and what a mean adds up, is a number of float16."""
    values = {"largest": found.largest, "largest_sum": found.largest_sum}
    known = {name: one for name, one in values.items() if one is not None}
    over = [f"{name} in {one.name}" for name, one in known.items() if not one.value <= HALF]
    return Check(
        step=step,
        tower=tower,
        status="failed" if over else "passed",
        engine=f"float32 on the CPU, {INPUTS} inputs",
        gate=f"at most {HALF:g}",
        figures={name: one.value if math.isfinite(one.value) else LARGEST for name, one in known.items()},
        detail="; ".join(over) or None,
    )


def _told(found: Compiled) -> str | None:
    """What stays on the CPU: types with how many there are of each, why, and the first by name."""
    told = []
    for kind, count in Counter(one.type for one in found.left).items():
        those = [one for one in found.left if one.type == kind]
        names = ", ".join(one.name for one in those[:NAMED]) + (", ..." if count > NAMED else "")
        reason = f" ({those[0].reason})" if those[0].reason else ""
        told.append(f"{count} {kind}{reason}: {names}")
    return "; ".join(told) or None
