"""Check of a text tower that takes the ids of any CLIP tokenizer: however they are padded, the answers are the same."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.heads.contexts import ended
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.verify.subject import TowerProof

STEP = "padding"
PROMPTS = 4
SAME = Bound("relative", 1e-6)
"""Bound of the deviation: the tower gets the same ids."""
BEYOND = 3
"""Number of ids after the context in rows that are too long."""


def pads_or_might(tower: TowerProof) -> bool:
    """Returns whether the target can write towers that pad ids inside, and this one may be such a tower."""
    tokens = tower.subject.bundle.manifest.tokenizer
    able = tower.subject.target.capabilities.ports.pads_inside and tokens is not None and tokens.kind is None
    return able and tower.name == "text"


def check_padding(tower: TowerProof) -> Iterator[Check]:
    """Checks that the manifest's `pads_inside` is true of the artifact, by ids that differ in their padding alone.

    The artifact's answers are compared with its own to the same ids with the usual padding. If the manifest does not
    say `pads_inside`, a row without an end token must have another answer.
    """
    subject = tower.subject
    tokens, ids = subject.bundle.manifest.tokens, subject.evidence.reference.inputs.ids[:PROMPTS]
    if ids.shape[1] != tokens.context_length:  # damaged, which `shipped` and `golden` report
        yield Check.not_run(STEP, tower.name, f"the golden prompts have {ids.shape[1]} ids")
        return
    free = tower.artifact.inputs[0].shape[1:] == (0,) and not subject.contexts
    try:
        runner = tower.runner
    except RuntimeFailed as error:  # `shipped` has reported it
        yield Check.not_run(STEP, tower.name, str(error))
        return
    if tower.entry.pads_inside:
        for name, rows in _paddings(ids, tokens, free).items():
            yield _same(runner, name, rows, tokens)
        return
    unended = _unended(ids, tokens)
    check = _same(runner, "no end token", unended, tokens)
    fault = "the graph pads ids itself, which the manifest does not say (`pads_inside`)"
    sound = "ids are padded outside, as the manifest says"
    outcome = Check.of_fault(STEP, tower.name, fault if check.status == "passed" else None, sound)
    yield outcome.model_copy(update={"engine": runner.engine})


def _same(runner: Runner, name: str, rows: npt.NDArray[np.int64], tokens: TokenizerSpec) -> Check:
    try:
        expected, answers = runner(ended(rows, tokens)), runner(rows)
    except (InvalidInput, RuntimeFailed) as error:
        return Check.failed(STEP, "text", f"{name}: {error}", runner.engine)
    check = Check.of_answers(STEP, "text", expected, answers, SAME, runner.engine)
    return check.model_copy(update={"detail": f"{name}, {len(rows)} prompts"})


def _paddings(ids: npt.NDArray[np.int64], tokens: TokenizerSpec, free: bool) -> dict[str, npt.NDArray[np.int64]]:
    """Returns rows of ids by the name of their padding. If the length is `free`, some are shorter and longer than the
    context."""
    length = tokens.context_length
    ends = (ids == tokens.eot).argmax(axis=1)
    rows = {
        "padded with the end token": np.where(np.arange(length) > ends[:, None], tokens.eot, ids),
        "no end token": _unended(ids, tokens),
    }
    if free:
        longest = int(ends.max())
        rows["no padding"] = ids[:, : longest + 1]
        rows["cut before the end token"] = ids[:, : max(int(ends.min()), 1)]
        rows["too long"] = np.pad(_unended(ids, tokens), ((0, 0), (0, BEYOND)), mode="edge")
    return rows


def _unended(ids: npt.NDArray[np.int64], tokens: TokenizerSpec) -> npt.NDArray[np.int64]:
    start = len(tokens.first)
    rows = ids.copy()
    for row, end in zip(rows, (ids == tokens.eot).argmax(axis=1), strict=True):
        words = row[start:end].copy()
        row[start:] = np.resize(words, len(row) - start) if len(words) else tokens.pad
    return rows
