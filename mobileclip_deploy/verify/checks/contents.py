"""Checks of claims in a bundle: contents of its artifacts, and figures that its export measured. Both are recomputed
and compared."""

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
# Versions since this one count artifacts as the current one does: all counts of 80 towers from 0.3.0 are equal.
COUNTED_ALIKE = 0, 3


def written_by_this_version(subject: Subject) -> bool:
    """Returns whether this version of the package wrote the bundle."""
    version = importlib.metadata.version("mobileclip-deploy")
    return subject.bundle.manifest.environment.get("mobileclip-deploy") == version


def written_by(subject: Subject) -> tuple[int, ...]:
    """Returns the version of the package that wrote the bundle, without its last number; () if none is recorded."""
    return _parts(subject.bundle.manifest.environment.get("mobileclip-deploy", ""))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))[:2]


def check_contents(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """Checks the contents that the manifest records for an artifact against a count of the file.

    A file may express a conversion differently (constants as operations), and then its counts differ. So the counts of
    a new conversion are accepted too, if there is one. Other versions may count differently: equal counts pass, and
    different counts are reported as not run.
    """
    claimed = subject.bundle.manifest.towers[tower].contents
    try:
        counted = subject.artifact(tower).contents
    except InvalidInput as error:
        yield Check(step="contents", tower=tower, status="failed", detail=str(error))
        return
    # Later versions may count differently.
    alike = COUNTED_ALIKE <= written_by(subject) <= _parts(importlib.metadata.version("mobileclip-deploy"))
    if claimed is None and (counted is None or not alike):
        return
    fresh = subject.made_again(tower)
    if claimed != counted and (fresh is None or subject.target.open(fresh).contents != claimed):
        wrong = "; ".join([*_differing(claimed or {}, counted or {})][:SHOWN])
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
    """Checks the figures in `parity.json` against today's: an export must not record better figures than it has.

    Figures of another engine or of other inputs are not comparable, and the detail reports the number of compared rows.
    The bounds are those of a lock file, which cover other processors and versions. For a network with a high noise
    floor, the bound is a multiple of the floor.

    Args:
        checks: today's checks.
    """
    recorded, measurements = subject.bundle.parity, subject.bundle.measurements
    if not recorded:
        return
    today = {(check.tower, check.step, check.engine): check for check in checks}
    inputs, golden_inputs = subject.evidence.reference.inputs, subject.stored.inputs
    stored = np.array_equal(inputs.pixels, golden_inputs.pixels) and np.array_equal(inputs.ids, golden_inputs.ids)
    own_floors = {str(tower): floor for tower, floor in subject.evidence.reference.floor.items()}
    wrong, compared = [], 0
    for check in recorded:
        now = today.get((check.tower, check.step, check.engine))
        # A failed check reports its deviation itself.
        reported = now is None or {now.status, check.status} & {"not run", "failed"}
        if now is None or reported or not _alike(check, now, stored):
            continue
        compared += 1
        # A deviation within some noise floors can come from another order of arithmetic, as `twin` allows.
        room = max(NOISE.deviation_floor, MULTIPLE * own_floors.get(check.tower, 0.0))
        texts = drifts(figures_of(check), figures_of(now), Tolerances(deviation_floor=room))
        wrong += [f"{check.tower} {check.step} {text.replace('accepted', 'recorded')}" for text in texts]
    floors = {} if measurements is None or not stored else measurements.floor
    for tower, floor in floors.items():
        if tower in own_floors:
            compared += 1
            # Arguments swapped: a larger floor is a looser bound for those without the checkpoint.
            texts = drifts({"relative": own_floors[tower]}, {"relative": floor})
            wrong += [f"{tower} noise floor: {text}" for text in texts]
    total = len(recorded) + len(floors)
    detail = "; ".join(wrong[:SHOWN]) or f"{compared} of {total} rows that its export measured are those of today"
    yield Check(step="measured", tower="both", status="failed" if wrong else "passed", detail=detail)


def _alike(recorded: Check, now: Check, stored: bool) -> bool:
    """Returns whether two checks were made on the same inputs, as far as they record them."""
    if recorded.step in ("task", "sampled"):
        examples = [{name: lost.examples for name, lost in (check.losses or {}).items()} for check in (recorded, now)]
        return examples[0] == examples[1]
    # The quick checks run fewer inputs on a slow runtime, and the worst of fewer is another figure.
    inputs = [None if check.deviation is None else check.deviation.inputs for check in (recorded, now)]
    return stored and inputs[0] == inputs[1]
