"""Check of an artifact that a compiler has compiled for one place of a device, on the user's request."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import Target, targets
from mobileclip_deploy.targets.artifact import Compiled
from mobileclip_deploy.verify.subject import TowerProof

INPUTS = 4
"""Number of inputs that are run: a GPU emulated in software is slow."""
NAMED = 3
HALF, LARGEST = float(np.finfo(np.float16).max), float(np.finfo(np.float32).max)


def require_place(target: Target, place: str) -> None:
    """Refuses a place that a format is not compiled for here.

    Raises:
        UsageError: the target does not compile for this place.
    """
    if place not in target.capabilities.places.compiled:
        able = [(entry.title, ", ".join(entry.capabilities.places.compiled)) for entry in targets().values()]
        names = " and ".join(f"{title} ({places})" for title, places in able if places)
        raise UsageError(f"`place` {place!r} is for bundles of {names}; leave it out for {target.title}")


def check_place(tower: TowerProof) -> Iterator[Check]:
    """Checks that every operation runs at the place, and checks the answers.

    A GPU computes in float16, whatever the artifact stores. So no value may exceed float16's range. The answers must be
    within the gate of float16, or of the precision if that is looser.
    """
    subject, place = tower.subject, tower.subject.place
    assert place is not None
    answers = f"{place} answers"
    try:
        compiled = tower.artifact.compiled(place, tower.inputs[:INPUTS])
    except NotRun as error:
        yield from (Check.not_run(step, tower.name, str(error)) for step in (place, answers))
        return
    on_cpu = compiled.operations if compiled.refusal is not None else len(compiled.left)
    yield Check(
        step=place,
        tower=tower.name,
        status="failed" if compiled.left or compiled.refusal is not None else "passed",
        engine=compiled.engine,
        gate="every operation",
        figures={"operations": compiled.operations, "on_cpu": on_cpu},
        detail=compiled.refusal or _operations_left(compiled),
    )
    if compiled.largest is not None:
        yield _range(compiled, tower.name, f"{place} range")
    if compiled.answers is None:
        yield Check.not_run(answers, tower.name, compiled.silence or "it returned nothing")
        return
    precision = "fp16" if tower.precision == "fp32" else tower.precision
    bound = subject.gates.shipped(precision, None, bool(subject.head.names))
    expected = tower.expected[: len(compiled.answers)]
    yield Check.of_answers(answers, tower.name, expected, compiled.answers, bound, compiled.engine)


def _range(compiled: Compiled, tower: TowerName, step: str) -> Check:
    values = {"largest": compiled.largest, "largest_sum": compiled.largest_sum}
    peaks = {name: peak for name, peak in values.items() if peak is not None}
    over = [f"{name} in {peak.name}" for name, peak in peaks.items() if not peak.value <= HALF]
    return Check(
        step=step,
        tower=tower,
        status="failed" if over else "passed",
        engine=f"float32 on the CPU, {INPUTS} inputs",
        gate=f"at most {HALF:g}",
        figures={name: peak.value if math.isfinite(peak.value) else LARGEST for name, peak in peaks.items()},
        detail="; ".join(over) or None,
    )


def _operations_left(compiled: Compiled) -> str | None:
    """Returns the operations that stay on the CPU: each type with its count, the reason, and the first names."""
    texts = []
    for kind, count in Counter(operation.type for operation in compiled.left).items():
        same_type = [operation for operation in compiled.left if operation.type == kind]
        names = ", ".join(operation.name for operation in same_type[:NAMED]) + (", ..." if count > NAMED else "")
        reason = f" ({same_type[0].reason})" if same_type[0].reason else ""
        texts.append(f"{count} {kind}{reason}: {names}")
    return "; ".join(texts) or None
