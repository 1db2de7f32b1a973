"""Check of an artifact against a conversion made now, since the same checkpoint gives the same program."""

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
# Packages that affect a conversion's operations, next to the target's own packages.
CONVERTERS = ("mobileclip-deploy", "torch")


def check_reproduced(subject: Subject, tower: TowerName) -> list[Check]:
    """Compares the artifact with one converted now from the same checkpoint, with the same options.

    It finds errors that rounding hides from the checks of answers, and errors that no input reaches. It passes for the
    same bytes, or for the same graph and constants in another form (see `targets.graph`). If they differ and other
    versions wrote the artifact, the check counts as not run.

    Raises:
        InvalidInput: the calibration folder contains other images than those of the bundle's calibration.
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
    names = target.capabilities.packages.converters or target.capabilities.packages.required
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    engine = f"a conversion by {versions or target.name}"
    # None if the check of weights could not read them.
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
        difference_text = f"other bytes than a conversion gives; {target.name} artifacts cannot be compared otherwise"
    else:
        difference = first_difference(written, converted)
        if difference is None and unlike is None:
            detail = f"the same operations and constants; other bytes{alone}"
            return [Check(step=STEP, tower=tower, status="passed", engine=engine, detail=detail)]
        difference_text = unlike or "" if difference is None else difference.describe()
    others = other_versions(bundle, target)
    if others:
        reason = f"differs from a conversion here, but was written by other versions ({others}); verify with those"
        return [Check.not_run(STEP, tower, f"{reason}: {difference_text}")]
    return [Check(step=STEP, tower=tower, status="failed", engine=engine, detail=difference_text)]


def other_versions(bundle: Bundle, target: Target) -> str:
    """Returns the packages that affect a conversion and had other versions when the bundle was written; empty for
    none."""
    written = bundle.manifest.environment
    names = (*CONVERTERS, *target.capabilities.packages.all)
    pairs = [(name, written.get(name), importlib.metadata.version(name)) for name in names]
    return ", ".join(f"{name} {then}, here {now}" for name, then, now in pairs if then != now)
