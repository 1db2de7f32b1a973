"""Each metric of a suite against counting by hand, and against published worked examples."""

from collections.abc import Sequence
from statistics import mean

import numpy as np
import pytest

from mobileclip_deploy.benchmark.suite import figures

CHANCE = np.random.default_rng(3)
LABELS = CHANCE.integers(0, 6, 60)
PREDICTED = np.where(CHANCE.random(60) < 0.5, LABELS, CHANCE.integers(0, 8, 60))
GROUPS = CHANCE.integers(0, 4, 60) * 3
COUNTS = CHANCE.integers(0, 3, 60)


def repeated(values: Sequence[int]) -> list[int]:
    """Each example as often as it counts."""
    return [int(value) for value, times in zip(values, COUNTS, strict=True) for _ in range(times)]


def pairs() -> list[tuple[int, int]]:
    return list(zip(repeated(LABELS), repeated(PREDICTED), strict=True))


def test_accuracy_and_recall_count_what_a_loop_counts() -> None:
    hits = LABELS == PREDICTED
    assert figures.accuracy(hits)(COUNTS) == pytest.approx(mean(a == b for a, b in pairs()))
    classes = {label for label, _ in pairs()}
    recalls = [mean(a == b for a, b in pairs() if a == label) for label in classes]
    assert figures.mean_per_class_recall(LABELS, hits)(COUNTS) == pytest.approx(mean(recalls))


def test_macro_f1_counts_what_a_loop_counts() -> None:
    scores = []
    for label in {label for label, _ in pairs()}:
        true = sum(a == label == b for a, b in pairs())
        false = sum(a != label == b for a, b in pairs())
        missed = sum(a == label != b for a, b in pairs())
        scores.append(2 * true / (2 * true + false + missed))
    assert figures.macro_f1(LABELS, PREDICTED)(COUNTS) == pytest.approx(mean(scores))


def test_the_worst_group_is_the_one_a_loop_finds() -> None:
    rows = list(zip(repeated(GROUPS), pairs(), strict=True))
    shares = [mean(a == b for own, (a, b) in rows if own == group) for group in {group for group, _ in rows}]
    assert figures.worst_group(GROUPS, LABELS == PREDICTED)(COUNTS) == pytest.approx(min(shares))


def test_recall_of_images_resampled_takes_their_texts_along() -> None:
    owners = np.array([0, 0, 1, 2, 2])
    to_text, to_image = np.array([True, False, True]), np.array([True, False, False, True, True])
    metered = figures.mean_recall(to_text, to_image, owners)
    assert metered(np.ones(3)) == pytest.approx(0.5 * (2 / 3 + 3 / 5))
    assert metered(np.array([2.0, 0.0, 1.0])) == pytest.approx(0.5 * (3 / 3 + (2 * 1 + 2) / (2 * 2 + 2)))


def test_worked_examples_of_scikit_learns_documentation() -> None:
    """Figures of f1_score (macro: 0.267), balanced_accuracy_score (0.625) and jaccard_score (first row: 0.6666)."""
    labels, predicted = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 2, 1, 0, 0, 1])
    assert figures.macro_f1(labels, predicted)(np.ones(6)) == pytest.approx(0.2667, abs=5e-5)
    labels, predicted = np.array([0, 1, 0, 0, 1, 0]), np.array([0, 1, 0, 0, 0, 1])
    assert figures.mean_per_class_recall(labels, labels == predicted)(np.ones(6)) == 0.625


def test_of_candidates_as_many_are_taken_as_are_right() -> None:
    right = np.array([True, True, False, False, False])
    near = np.array([0.9, 0.1, 0.8, 0.2, 0.3], np.float32)
    assert figures.jaccard(near, right) == pytest.approx(1 / 3)  # {0, 2} of {0, 1}: one of three
    assert figures.jaccard(np.array([5, 4, 1, 1, 1], np.float32), right) == 1
    assert figures.jaccard(np.array([0, 0, 1, 1, 0], np.float32), right) == 0
    metered = figures.mean_over(np.array([1.0, 0.5, 0.0]), np.array([True, True, False]))
    assert metered(np.array([1.0, 3.0, 9.0])) == pytest.approx(2.5 / 4)


def test_an_interval_is_that_of_resamples() -> None:
    hits = np.arange(400) % 4 != 0
    found = figures.percent(figures.accuracy(hits), 400)
    assert found.value == 75
    deviation = 100 * (0.75 * 0.25 / 400) ** 0.5  # of a share, by the binomial distribution
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.1)
    assert found == figures.percent(figures.accuracy(hits), 400)
