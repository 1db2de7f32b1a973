"""Check of an artifact against a conversion made now, since the same checkpoint gives the same program."""

import importlib.metadata

from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.verify.instruments.versions import other_versions
from mobileclip_deploy.verify.subject import TowerProof

STEP = "reproduced"


def check_reproduced(tower: TowerProof) -> list[Check]:
    """Compares the artifact with one converted now from the same checkpoint, with the same options.

    It finds errors that rounding hides from the checks of answers, and errors that no input reaches. It passes for the
    same bytes, or for the same graph and constants in another form (see `targets.graph`). If they differ and other
    versions wrote the artifact, the check counts as not run.

    Raises:
        InvalidInput: the calibration folder contains other images than those of the bundle's calibration.
        ExportError: the converter failed.
    """
    subject, bundle, target = tower.subject, tower.subject.bundle, tower.subject.target
    if subject.source is None:
        return [Check.not_run(STEP, tower.name, subject.needs_checkpoint)]
    if not subject.thorough:
        return [Check.not_wanted(STEP, tower.name)]
    if (missing := tower.missing_for_conversion()) is not None:
        return [Check.not_run(STEP, tower.name, missing)]
    if tower.chosen and not tower.matched:
        return [Check.not_run(STEP, tower.name, "its rounding was learned, but its weights cannot be read back")]
    try:
        fresh, artifact = tower.convert(), bundle.artifact(tower.name)
    except NotRun as error:
        return [Check.not_run(STEP, tower.name, str(error))]
    names = target.capabilities.packages.converters or target.capabilities.packages.required
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    engine = f"a conversion by {versions or target.name}"
    alone = "; its weights cannot be read back one by one" if tower.unreadable else ""
    if tower.chosen:
        alone = "; converted with its own stored weights, whose rounding was learned"
    if artifact_sha256(fresh) == artifact_sha256(artifact):
        return [Check(step=STEP, tower=tower.name, status="passed", engine=engine, detail=f"byte for byte{alone}")]
    again = target.open(fresh)
    try:
        written, unlike = tower.artifact.graph, tower.artifact.unlike(again)
    except InvalidInput as error:
        return [Check.failed(STEP, tower.name, str(error), engine)]
    converted = again.graph
    if written is None or converted is None:
        difference_text = (
            f"other bytes than a new conversion; {target.name} artifacts can only be compared byte for byte"
        )
    else:
        difference = first_difference(written, converted)
        if difference is None and unlike is None:
            detail = f"the same operations and constants; other bytes{alone}"
            return [Check(step=STEP, tower=tower.name, status="passed", engine=engine, detail=detail)]
        difference_text = unlike or "" if difference is None else difference.describe()
    others = other_versions(bundle, target)
    if others:
        reason = f"differs from a new conversion, but was written by other versions ({others}); verify with those"
        return [Check.not_run(STEP, tower.name, f"{reason}: {difference_text}")]
    return [Check.failed(STEP, tower.name, difference_text, engine)]
