"""What a bundle says of "nothing found", held against its background pictures and golden prompts."""

from __future__ import annotations

import numpy as np

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.needed import LEAST_BACKGROUND
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.relevance import Relevance
from mobileclip_deploy.verify.subject import OpenedSubject, Subject

EVERY = "both"
LENGTH = 0.02
"""By how much int8 may move the length of an embedding from 1."""
LAST_DIGIT = 2e-6


def check_relevance(subject: Subject) -> list[Check]:
    """Every background picture has length 1, and all of them with weights and threshold give what the manifest says of
    the golden prompts: their mean moves with each number of each picture. Nothing where it was not asked for.

    The pictures are the user's and not in the bundle, so that they cannot be embedded again.
    """
    if subject.bundle.manifest.relevance is None:
        return []
    wrong = _wrong(subject)
    detail = wrong or "the background pictures and the threshold give what is recorded of the golden prompts"
    return [Check(step="relevance", tower=EVERY, status="failed" if wrong else "passed", detail=detail)]


def _wrong(subject: Subject) -> str | None:
    """What is wrong; None where nothing is."""
    told = subject.bundle.manifest.relevance
    assert told is not None
    try:
        found = Relevance.of(subject.bundle)
        golden = (subject.stored if isinstance(subject, OpenedSubject) else subject.evidence.reference).of("text")
    except InvalidInput as error:
        return str(error)
    assert found is not None
    if told.images < LEAST_BACKGROUND:
        return f"it holds {told.images} background pictures, and {LEAST_BACKGROUND} are needed"
    lengths = np.linalg.norm(found.pictures, axis=1)
    if np.abs(lengths - 1).max() > LENGTH:
        row = int(np.abs(lengths - 1).argmax())
        return f"background picture {row} has length {lengths[row]:.3f}, not 1"
    answers = found.answers(golden)
    if len(answers) != len(told.golden):
        return f"it records {len(told.golden)} golden prompts of {len(answers)}"
    for number, (have, want) in enumerate(zip(told.golden, answers, strict=True)):
        for name in ("mean", "spread", "needed"):
            recorded, computed = getattr(have, name), getattr(want, name)
            if not abs(recorded - computed) <= LAST_DIGIT:
                return f"{name} of golden prompt {number} is {recorded}, and comes to {computed}"
    return None
