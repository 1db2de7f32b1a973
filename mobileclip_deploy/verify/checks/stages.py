"""Checks of the stages of a conversion, each against the stage before it, such as `prepared` and `lowered`."""

from collections.abc import Iterable

from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.verify.subject import TowerProof, WrittenSubject


def check_stages(tower: TowerProof) -> Iterable[Check]:
    """Returns the stages that an export measured, or measures them again; empty for targets without stages.

    Activations are measured on the packaged samples, since a bundle does not contain its calibration images.
    """
    subject = tower.subject
    if isinstance(subject, WrittenSubject):
        return subject.measured.get(tower.name, ())
    if subject.source is None or not subject.target.capabilities.formats.stages:
        return ()
    if not subject.thorough:
        return (Check.not_wanted("stages", tower.name),)
    job = tower_job(subject.source, tower.name, tower.precision, head=subject.head)
    return subject.target.stage_checks(job, subject.bundle.artifact(tower.name))
