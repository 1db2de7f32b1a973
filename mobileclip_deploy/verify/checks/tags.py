"""Check of learned labels: their file against the manifest, the labels' texts and the golden pictures."""

from collections.abc import Iterator, Sequence

import numpy as np

from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.artifacts.towers.classifier import label_embeddings
from mobileclip_deploy.parity import Check
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.spaces.tags.fitting import SHARE
from mobileclip_deploy.spaces.tags.rows import METHODS, TEXTS, WITHOUT_TEXTS
from mobileclip_deploy.verify.instruments.versions import written_by_this_version
from mobileclip_deploy.verify.subject import Subject

DIRECTION = 1e-3
"""Largest distance of a row's direction from its text's: rows are rounded to five digits."""


def check_tags(subject: Subject) -> list[Check]:
    """Checks the rows and thresholds of learned labels. Returns nothing if the labels were not learned.

    The pictures that they were learned from are not in the bundle. Rows that the method takes from texts alone are
    computed again if the checkpoint is available.
    """
    learned = subject.head.learned
    if learned is None:
        return []
    sound = "rows and thresholds match the manifest and decide the golden pictures as recorded"
    return [Check.of_faults("tags", "image", [*_wrong(subject, learned)], sound)]


def _wrong(subject: Subject, learned: LabelHead) -> Iterator[str]:
    classifier = subject.bundle.manifest.classifier
    assert classifier is not None
    assert classifier.tags is not None
    rule = classifier.tags.thresholds
    pairs = {
        "labels": (learned.names, classifier.labels),
        "template": (learned.template, classifier.template),
        "thresholds": (learned.thresholds, rule),
        "embedding space": (learned.embedding_space, subject.bundle.manifest.embedding_space),
    }
    yield from (f"the {name} of {classifier.tags.file.file} differ" for name, (a, b) in pairs.items() if a != b)
    if written_by_this_version(subject.bundle):
        known = WITHOUT_TEXTS if learned.template is None else METHODS
        if rule.method not in {method.name for method in known}:
            yield f"thresholds.method {rule.method!r} is not known"
        if rule.share != SHARE:
            yield f"thresholds.share is {rule.share:g}, expected {SHARE:g}"
    if rule.false_tags > rule.aim:
        yield f"thresholds.false_tags {rule.false_tags:g} is more than its aim {rule.aim:g}"
    if (rule.texts_right is None) != (learned.template is None):
        yield "thresholds.texts_right and the template need each other"
    yield from _unlike_golden(subject, learned, classifier.tags.golden)
    if rule.method == TEXTS.name and subject.source is not None:
        yield from _unlike_texts(subject, learned)


def _unlike_golden(subject: Subject, learned: LabelHead, golden: Sequence[Sequence[int]]) -> Iterator[str]:
    rows = learned.probabilities(subject.evidence.reference.of("image"))
    if len(rows) != len(golden):
        yield f"it records the labels of {len(golden)} golden pictures, not {len(rows)}"
        return
    for index, (row, recorded) in enumerate(zip(rows, golden, strict=True)):
        if learned.thresholds.present(row) != list(recorded):
            yield f"golden picture {index} has the labels {learned.thresholds.present(row)}, recorded {list(recorded)}"
            return


def _unlike_texts(subject: Subject, learned: LabelHead) -> Iterator[str]:
    assert subject.source is not None
    texts = label_embeddings(subject.source.model, LabelSet(learned.labels, learned.template))
    apart = np.linalg.norm(at_length_one(learned.weights[:-1] - learned.weights[-1]) - texts, axis=1)
    if not apart.max() <= DIRECTION:
        yield f"the row of {learned.labels[int(apart.argmax())]!r} is not that of its text"
