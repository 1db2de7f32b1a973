"""Check of a bundle's "nothing found" data against its background pictures and golden prompts."""

import numpy as np

from mobileclip_deploy.artifacts.bundle.manifest import RelevanceEntry
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.minimum_samples import LEAST_BACKGROUND
from mobileclip_deploy.network.embedding import exact_texts
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.axes import unit_if_distinct
from mobileclip_deploy.spaces.relevance import Relevance
from mobileclip_deploy.spaces.relevance_fit import FALSE_ALARMS, RelevanceSamples, fit, measured_curve
from mobileclip_deploy.spaces.relevance_set import words_at_random
from mobileclip_deploy.verify.instruments.versions import written_by_this_version
from mobileclip_deploy.verify.subject import OpenedSubject, Subject

LENGTH = 0.02
"""Largest deviation of an embedding's length from 1 that int8 causes."""
LAST_DIGIT = 2e-6
FITTED = 1e-4
"""Largest change of the learned values by folding and by another processor."""
SHARE = 0.01
"""Largest change of the share of false alarms: some words lie at the threshold."""


def check_relevance(subject: Subject) -> list[Check]:
    """Checks that every background picture has length 1, and that the recorded values of the golden prompts follow from
    them. The mean of these values depends on each element of each picture. Returns nothing if the bundle has no
    relevance data.

    The pictures are the user's and not in the bundle, so they cannot be embedded again. A threshold learned without the
    user's captions is learned again, if the checkpoint is available.
    """
    if subject.bundle.manifest.relevance is None:
        return []
    sound = "the background pictures and the threshold reproduce the recorded golden prompts"
    return [Check.of_fault("relevance", "both", _wrong(subject), sound)]


def _wrong(subject: Subject) -> str | None:
    entry = subject.bundle.manifest.relevance
    assert entry is not None
    try:
        relevance = Relevance.of(subject.bundle)
        golden = (subject.stored if isinstance(subject, OpenedSubject) else subject.evidence.reference).of("text")
    except InvalidInput as error:
        return str(error)
    assert relevance is not None
    if entry.images < LEAST_BACKGROUND:
        return f"it has {entry.images} background pictures; {LEAST_BACKGROUND} are needed"
    lengths = np.linalg.norm(relevance.pictures, axis=1)
    if np.abs(lengths - 1).max() > LENGTH:
        row = int(np.abs(lengths - 1).argmax())
        return f"background picture {row} has length {lengths[row]:.3f}, not 1"
    answers = relevance.answers(golden)
    if len(answers) != len(entry.golden):
        return f"it records {len(entry.golden)} golden prompts of {len(answers)}"
    for index, (have, want) in enumerate(zip(entry.golden, answers, strict=True)):
        for name in ("mean", "spread", "needed"):
            recorded, computed = getattr(have, name), getattr(want, name)
            if not abs(recorded - computed) <= LAST_DIGIT:
                return f"{name} of golden prompt {index} is {recorded}, computed {computed}"
    if written_by_this_version(subject.bundle) and entry.false_alarms != FALSE_ALARMS:
        return f"false_alarms is {entry.false_alarms:g}, expected {FALSE_ALARMS:g}"
    return _unlike_fit(subject, entry, relevance) if is_learned_again(subject) else None


def is_learned_again(subject: Subject) -> bool:
    """Returns whether the threshold can be learned again: from the bundle's pictures and packaged words."""
    entry = subject.bundle.manifest.relevance
    opened = isinstance(subject, OpenedSubject) and subject.thorough and subject.source is not None
    return opened and entry is not None and entry.queries is None and written_by_this_version(subject.bundle)


def _unlike_fit(subject: Subject, entry: RelevanceEntry, relevance: Relevance) -> str | None:
    assert subject.source is not None
    model = subject.source.model
    words = words_at_random(builtin_dataset().captions)
    nonsense = unit_if_distinct(exact_texts(model, encode(words, model.variant.tokens)), "texts")
    none = np.zeros((0, nonsense.shape[1]))
    samples = RelevanceSamples(none, none, nonsense, relevance.pictures)
    fitted, curve = fit(samples), measured_curve(samples)
    pairs = [
        ("the largest of weights", np.abs(relevance.fitted.weights).max(), 0.0),
        ("spread", entry.spread, 0.0),
        ("intercept", entry.intercept, fitted.intercept),
        ("slope", entry.slope, fitted.slope),
    ]
    for name, have, want in pairs:
        if not abs(have - want) <= FITTED:
            return f"{name} is {have:g}, learned again it is {want:g}"
    if entry.queries_sha256 is not None:
        return "queries_sha256 is present without queries"
    sound = len(entry.curve) == len(curve) and all(
        have.model_copy(update={"nonsense": None}) == want.model_copy(update={"nonsense": None})
        and abs((have.nonsense or 0.0) - (want.nonsense or 0.0)) <= SHARE
        for have, want in zip(entry.curve, curve, strict=True)
    )
    return None if sound else "curve differs from a new fit"
