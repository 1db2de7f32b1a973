"""Check of the answers to prompts at shorter contexts."""

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.artifacts.heads.contexts import fitting
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.verify.subject import TowerProof

STEP = "contexts"


def check_contexts(tower: TowerProof) -> Iterator[Check]:
    """Checks the answers to prompts cut to each shorter context against the checkpoint's answers at full length.

    The bound is that of `shipped`, whose inputs have the full length. A slow runtime runs as few prompts as there.
    """
    for load in tower.artifact.runners():
        try:
            runner = load()
        except RuntimeFailed as error:  # if no engine accepts it, `shipped` has reported that
            yield Check.not_run(STEP, tower.name, str(error))
            continue
        for length in tower.subject.contexts[:-1]:
            yield _at_length(tower, length, runner)


def _at_length(tower: TowerProof, length: int, runner: Runner) -> Check:
    ids = tower.subject.evidence.reference.inputs.ids
    rows = np.flatnonzero(fitting(ids, (length,), tower.subject.bundle.manifest.tokens) == length)
    if not len(rows):
        return Check.not_run(STEP, tower.name, f"none of the {len(ids)} prompts fits into {length} tokens")
    rows = rows[tower.sampled_rows(ids[rows, :length])]
    try:
        answers = runner(np.ascontiguousarray(ids[rows, :length]))
    except (InvalidInput, RuntimeFailed) as error:  # it accepts the full length only
        return Check.failed(STEP, tower.name, f"{length} tokens: {error}", runner.engine)
    check = Check.of_answers(STEP, tower.name, tower.expected[rows], answers, tower.bound, runner.engine)
    return check.model_copy(update={"detail": f"{length} tokens, {len(rows)} of {len(ids)} prompts"})
