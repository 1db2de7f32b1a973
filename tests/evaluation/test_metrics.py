"""Ranks and percentages: closed forms; ties and NaN count against the model."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclip_deploy.evaluation.metrics import (
    Interval,
    Loss,
    paired_difference,
    paired_loss,
    percentage,
    ranks_of,
    retrieval_ranks,
)

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


def test_a_difference_is_resampled_in_pairs() -> None:
    generator = np.random.default_rng(0)
    hits = generator.random(500) < 0.5
    other = hits.copy()
    other[:5] = ~other[:5]
    found = paired_difference(hits, other)
    assert abs(found.value) <= 1
    assert found.high - found.low < 2.5 < percentage(hits).high - percentage(hits).low
    assert paired_difference(hits, hits) == Interval(value=0, low=0, high=0)


def test_blocks_of_rows_give_the_ranks_of_the_whole() -> None:
    generator = np.random.default_rng(1)
    images, texts = (generator.standard_normal((count, 4)).astype(np.float32) for count in (600, 1200))
    owners = np.repeat(np.arange(600), 2)
    to_text, to_image = retrieval_ranks(images, texts, owners)
    similarity = images @ texts.T
    for number in (0, 255, 256, 599):
        best = similarity[number, 2 * number : 2 * number + 2].max()
        assert to_text[number] == (similarity[number] > best).sum()
    assert to_image.tolist() == ranks_of(similarity.T.copy(), owners).tolist()


def test_nan_among_ones_own_captions_is_no_hit() -> None:
    texts = np.array([[1, 0], [np.nan, 0], [0, 1]], dtype=np.float32)
    images = np.array([[1, 0], [0, 1]], dtype=np.float32)
    to_text, _ = retrieval_ranks(images, texts, np.array([0, 0, 1]))
    assert to_text.tolist() == [1, 1]


def test_a_loss_depends_on_the_examples_that_the_two_do_not_agree_on() -> None:
    before, after = np.ones(2000, bool), np.ones(2000, bool)
    before[:9], after[9:33] = False, False
    loss = paired_loss(before, after)
    assert (loss.lost, loss.won, loss.examples) == (24, 9, 2000)
    assert loss.points == pytest.approx(0.75)
    # McNemar: the variance of (24 - 9) / 2000 is (24 + 9 - 15 ** 2 / 2000) / 2000 ** 2.
    assert loss.error == pytest.approx(1.96 * 100 * np.sqrt(33 - 225 / 2000) / 2000)


def test_a_loss_within_chance_of_its_bound_is_undecided() -> None:
    half = Loss(24, 9, 2000)  # 0.75, and 0.56 to either side
    assert half.more_for(0.0) is None
    assert half.describe(2.0) == "+0.75 ± 0.56 points (24 lost, 9 won)"
    assert half.describe(0.5).endswith("undecided: 8,108 more would tell")
    more = half.more_for(0.5)
    assert more is not None
    scale = (2000 + more) / 2000
    assert Loss(round(24 * scale), round(9 * scale), 2000 + more).more_for(0.5) is None
    assert Loss(10, 0, 2000).describe(0.5).endswith("undecided: no number of examples would tell")
    assert Loss(0, 0, 2000).describe(0.5) == "+0.00 ± 0.00 points (0 lost, 0 won)"
