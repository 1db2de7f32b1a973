"""What a bundle says of itself beside names and numbers of its artifacts: what these are made of, and what its export
measured. Both are recomputed and compared."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.baseline import NOISE, Tolerances, drifts, figures_of
from mobileclip_deploy.parity.gates import MULTIPLE
from mobileclip_deploy.verify.subject import OpenedSubject, Subject

Contents = Mapping[str, Mapping[str, int]]
SHOWN = 3
# Artifacts are counted since this version as they are now: of 80 towers that 0.3.0 wrote all counts are equal.
COUNTED_ALIKE = 0, 3


def written_by_this_version(subject: Subject) -> bool:
    """Whether this version of the package wrote the bundle."""
    own = importlib.metadata.version("mobileclip-deploy")
    return subject.bundle.manifest.environment.get("mobileclip-deploy") == own


def written_by(subject: Subject) -> tuple[int, ...]:
    """The version of the package, without its last number, that wrote the bundle; () where it names none."""
    return _parts(subject.bundle.manifest.environment.get("mobileclip-deploy", ""))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))[:2]


def check_contents(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """What the manifest says that an artifact is made of, against what is counted now.

    A file that says the same as a conversion in other words (constants as operations) is counted otherwise: what counts
    for it is the conversion, where one was made. A version that may count otherwise is held to it, too; where it has
    counted otherwise, nothing is said.
    """
    claimed = subject.bundle.manifest.towers[tower].contents
    try:
        found = subject.artifact(tower).contents
    except InvalidInput as error:
        yield Check(step="contents", tower=tower, status="failed", detail=str(error))
        return
    # What later versions count is not known.
    alike = COUNTED_ALIKE <= written_by(subject) <= _parts(importlib.metadata.version("mobileclip-deploy"))
    if claimed is None and (found is None or not alike):
        return
    fresh = subject.made_again(tower)
    if claimed != found and (fresh is None or subject.target.open(fresh).contents != claimed):
        wrong = "; ".join([*_differing(claimed or {}, found or {})][:SHOWN])
        written = subject.bundle.manifest.environment.get("mobileclip-deploy", "another version")
        if alike:
            yield Check(step="contents", tower=tower, status="failed", detail=wrong)
        else:
            yield Check.not_run("contents", tower, f"counted by {written}, which may count otherwise: {wrong}")
        return
    kinds = ", ".join(claimed or {}).replace("_", " ")
    yield Check(step="contents", tower=tower, status="passed", detail=f"{kinds} are as counted now")


def _differing(claimed: Contents, found: Contents) -> Iterator[str]:
    for kind in {**found, **claimed}:
        have, want = claimed.get(kind, {}), found.get(kind, {})
        for name in {**want, **have}:
            if have.get(name) != want.get(name):
                yield f"{kind} {name} is {have.get(name)} in the manifest, {want.get(name)} in the file"


def check_measured(subject: OpenedSubject, checks: Sequence[Check]) -> Iterator[Check]:
    """The figures in `parity.json` against those of today: an export may not have measured itself nearer than it is.

    What another engine measured, or on other inputs, is not comparable, and the detail says how much was. The bounds
    are those of a lock file: what other processors and versions move; of a network whose floor is high, as much as
    arithmetic in another order moves its answers.

    Args:
        checks: of today.
    """
    recorded, measurements = subject.bundle.parity, subject.bundle.measurements
    if not recorded:
        return
    today = {(check.tower, check.step, check.engine): check for check in checks}
    inputs, own = subject.evidence.reference.inputs, subject.stored.inputs
    stored = np.array_equal(inputs.pixels, own.pixels) and np.array_equal(inputs.ids, own.ids)
    own_floors = {str(tower): floor for tower, floor in subject.evidence.reference.floor.items()}
    wrong, compared = [], 0
    for check in recorded:
        now = today.get((check.tower, check.step, check.engine))
        told = now is None or {now.status, check.status} & {"not run", "failed"}  # and so is what it failed by
        if now is None or told or not _alike(check, now, stored):
            continue
        compared += 1
        # Of some floors a deviation is one of the same arithmetic in another order, as `twin` allows it.
        room = max(NOISE.deviation_floor, MULTIPLE * own_floors.get(check.tower, 0.0))
        texts = drifts(figures_of(check), figures_of(now), Tolerances(deviation_floor=room))
        wrong += [f"{check.tower} {check.step} {text.replace('accepted', 'recorded')}" for text in texts]
    floors = {} if measurements is None or not stored else measurements.floor
    for tower, floor in floors.items():
        if tower in own_floors:
            compared += 1
            # Held the other way round: a larger floor is a looser bound where nobody has the checkpoint.
            texts = drifts({"relative": own_floors[tower]}, {"relative": floor})
            wrong += [f"{tower} noise floor: {text}" for text in texts]
    many = len(recorded) + len(floors)
    detail = "; ".join(wrong[:SHOWN]) or f"{compared} of {many} rows that its export measured are those of today"
    yield Check(step="measured", tower="both", status="failed" if wrong else "passed", detail=detail)


def _alike(recorded: Check, now: Check, stored: bool) -> bool:
    """Whether two checks were made on the same inputs, as far as they say."""
    if recorded.step in ("task", "sampled"):
        examples = [{name: lost.examples for name, lost in (check.losses or {}).items()} for check in (recorded, now)]
        return examples[0] == examples[1]
    # A slow runtime is asked fewer inputs by the quick checks, and the worst of fewer is another figure.
    asked = [None if check.deviation is None else check.deviation.inputs for check in (recorded, now)]
    return stored and asked[0] == asked[1]
