"""Of a text tower that takes several lengths of ids: the same embeddings at each that holds a prompt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.towers.contexts import fitting
from mobileclip_deploy.verify.subject import Subject

__all__ = ["check_contexts"]

STEP = "contexts"


def check_contexts(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """The reference's prompts that a context holds, cut to it, against what the checkpoint answers at full length.

    The bound is that of `shipped`, whose inputs have the full length.
    """
    if tower != "text" or not subject.contexts:
        return
    subject.tell(tower, "shorter contexts")
    bound = subject.gates.shipped(subject.bundle.manifest.towers[tower].precision, subject.floor(tower))
    for load in subject.target(tower).runners(subject.bundle.artifact(tower)):
        try:
            runner = load()
        except RuntimeFailed as error:  # where no engine takes it, `shipped` has said so
            yield Check.not_run(STEP, tower, str(error))
            continue
        for length in subject.contexts[:-1]:
            yield _check(subject, length, runner, bound)


def _check(subject: Subject, length: int, runner: Runner, bound: Bound) -> Check:
    ids = subject.evidence.reference.inputs.ids
    tokenizer = subject.bundle.manifest.tokens
    rows = np.flatnonzero(fitting(ids, (length,), tokenizer) == length)
    if not len(rows):
        return Check.not_run(STEP, "text", f"none of the {len(ids)} prompts fits into {length} tokens")
    try:
        found = runner(np.ascontiguousarray(ids[rows, :length]))
    except (InvalidInput, RuntimeFailed) as error:  # it takes the full length alone
        detail = f"{length} tokens: {error}"
        return Check(step=STEP, tower="text", status="failed", engine=runner.engine, detail=detail)
    check = Check.of_answers(STEP, "text", subject.wanted("text")[rows], found, bound, runner.engine)
    return check.model_copy(update={"detail": f"{length} tokens, {len(rows)} of {len(ids)} prompts"})
