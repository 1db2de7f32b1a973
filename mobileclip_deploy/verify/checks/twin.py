"""Check of the float32 twin: the same conversion in float32, written and run. In an artifact of lower precision,
rounding would hide a small mistake."""

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.subject import TowerProof


def check_twin(tower: TowerProof) -> list[Check]:
    """Checks the answers of the twin. At float32, the artifact is its own twin."""
    subject, is_float32 = tower.subject, tower.precision == "fp32"
    if subject.source is None:
        return [Check.not_run("twin", tower.name, subject.needs_checkpoint)]
    if not is_float32 and not subject.thorough:
        return [Check.not_wanted("twin", tower.name)]
    try:
        runner = tower.runner if is_float32 else subject.target.open(tower.convert("fp32")).runner()
    except NotRun as error:
        return [Check.not_run("twin", tower.name, str(error))]
    return [tower.check_answers("twin", runner, tower.exact_bound)]
