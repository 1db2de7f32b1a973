"""Check of the artifact as written."""

from mobileclip_deploy.errors import NotRun, RuntimeFailed
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import TowerProof


def check_shipped(tower: TowerProof) -> list[Check]:
    """Checks the artifact as written, at its own precision, on each engine here; the worst input counts.

    An engine that refuses the artifact is a check that was not run, if another engine accepts it.

    Raises:
        InvalidInput: the artifact is damaged.
        RuntimeFailed: no engine accepts it.
    """
    subject = tower.subject
    if subject.source is None and subject.head.names and subject.evidence.reference.probabilities is None:
        # The artifact of a classifier contains no text tower to embed its labels again.
        return [Check.not_run("shipped", tower.name, subject.needs_checkpoint)]
    artifact = tower.artifact
    checks: list[Check] = []
    refusals: list[RuntimeFailed] = []
    for load in artifact.runners():
        try:
            runner = tower.runner if load == artifact.runner else load()
            checks.append(tower.check_answers("shipped", runner, tower.bound))
        except RuntimeFailed as error:
            refusals.append(error)
            checks.append(Check.not_run("shipped", tower.name, str(error)))
    tower.release_runner()
    if len(refusals) == len(checks) and not isinstance(refusals[0], NotRun):
        raise refusals[0]
    if (untestable_part := artifact.unasked) is not None:
        checks.append(Check.not_wanted("shipped", tower.name, untestable_part))
    return checks
