"""What is written against what is converted now: the same checkpoint gives the same program."""

from __future__ import annotations

import importlib.metadata

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.verify.subject import Subject, lacks_to_convert

STEP = "reproduced"
# What decides, beside the checkpoint and the target's own packages, which operations a conversion writes.
CONVERTERS = ("mobileclip-deploy", "torch")


def check_reproduced(subject: Subject, tower: TowerName) -> list[Check]:
    """The artifact as written against one converted now from the same checkpoint, with the same options.

    It sees what rounding hides from the checks of answers, and what no input reaches. Passed: the same bytes, or the
    same graph and constants in other words (see `targets.graph`). Where they differ and the versions that wrote the
    artifact are others than those here, nothing can be said, and the check counts as not run.

    Raises:
        InvalidInput: the calibration folder holds other images than those that the bundle was calibrated on.
        ExportError: the converter failed.
    """
    bundle, target = subject.bundle, subject.target
    if subject.source is None:
        return [Check.not_run(STEP, tower, subject.needs_checkpoint)]
    if not subject.thorough:
        return [Check.not_wanted(STEP, tower)]
    if (lacks := lacks_to_convert(subject, tower)) is not None:
        return [Check.not_run(STEP, tower, lacks)]
    if subject.chosen(tower) and not subject.matched.get(tower):
        return [Check.not_run(STEP, tower, "its rounding was learned, and the weights it chose cannot be read back")]
    try:
        fresh, artifact = subject.converted(tower), bundle.artifact(tower)
    except NotRun as error:
        return [Check.not_run(STEP, tower, str(error))]
    names = target.abilities.converters or target.abilities.packages
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    engine = f"a conversion by {versions or target.name}"
    # None where the check of weights found that they cannot be read.
    alone = "; its weights cannot be read back one by one" if subject.matched.get(tower, ()) is None else ""
    if subject.chosen(tower):
        alone = "; converted with the weights that stand in it, whose rounding was learned"
    if artifact_sha256(fresh) == artifact_sha256(artifact):
        return [Check(step=STEP, tower=tower, status="passed", engine=engine, detail=f"byte for byte{alone}")]
    again = target.open(fresh)
    try:
        written, unlike = subject.artifact(tower).graph, subject.artifact(tower).unlike(again)
    except InvalidInput as error:
        return [Check(step=STEP, tower=tower, status="failed", engine=engine, detail=str(error))]
    converted = again.graph
    if written is None or converted is None:
        found = f"other bytes than a conversion gives; {target.name} artifacts cannot be compared otherwise"
    else:
        difference = first_difference(written, converted)
        if difference is None and unlike is None:
            detail = f"the same operations and constants; other bytes{alone}"
            return [Check(step=STEP, tower=tower, status="passed", engine=engine, detail=detail)]
        found = unlike or "" if difference is None else difference.describe()
    others = other_versions(bundle, target)
    if others:
        reason = f"differs from a conversion here, but was written by other versions ({others}); verify with those"
        return [Check.not_run(STEP, tower, f"{reason}: {found}")]
    return [Check(step=STEP, tower=tower, status="failed", engine=engine, detail=found)]


def other_versions(bundle: Bundle, target: Target) -> str:
    """The packages that decide a conversion and are others here than when the bundle was written; empty for none."""
    written = bundle.manifest.environment
    names = (*CONVERTERS, *target.abilities.all_packages)
    pairs = [(name, written.get(name), importlib.metadata.version(name)) for name in names]
    return ", ".join(f"{name} {then}, here {now}" for name, then, now in pairs if then != now)
