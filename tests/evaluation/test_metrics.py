"""Ranks and percentages: closed forms; ties and NaN count against the model."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclip_deploy.evaluation.metrics import percentage, ranks_of

SIMILARITY = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], dtype=np.float32)


def test_the_rank_is_the_number_of_candidates_that_are_better() -> None:
    assert ranks_of(SIMILARITY, np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_ties_count_against_the_right_candidate() -> None:
    assert ranks_of(np.zeros((2, 5), dtype=np.float32), np.array([0, 4])).tolist() == [4, 4]


def test_nan_is_the_worst_rank_not_a_hit() -> None:
    nan = np.full((1, 5), np.nan, dtype=np.float32)
    assert ranks_of(nan, np.array([0])).tolist() == [4]
    mixed = np.array([[0.9, np.nan, 0.1]], dtype=np.float32)
    assert ranks_of(mixed, np.array([0])).tolist() == [1]


def test_a_percentage_lies_in_its_interval_which_is_reproducible() -> None:
    hits = np.array([True] * 30 + [False] * 70)
    found = percentage(hits)
    assert found.value == pytest.approx(30)
    assert 15 < found.low < 30 < found.high < 45
    assert percentage(hits) == found


@pytest.mark.parametrize("hit", [True, False])
def test_all_or_nothing_has_no_width(hit: bool) -> None:
    found = percentage(np.full(10, hit))
    assert found.low == found.value == found.high == (100 if hit else 0)
