"""Ranks and percentages: closed forms; ties and NaN count against the model."""

import numpy as np
import pytest
import torch

from mobileclip_deploy.base.intervals import Interval
from mobileclip_deploy.evaluation.metrics import (
    Loss,
    divergence,
    paired_difference,
    paired_loss,
    percentage,
    ranks_of,
    retrieval_ranks,
)
from mobileclip_deploy.pictures.embedding import unit

SIMILARITY = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], dtype=np.float32)


def test_the_rank_is_the_number_of_candidates_that_are_better_as_ties_and_nan_are() -> None:
    assert ranks_of(SIMILARITY, np.array([0, 1, 2])).tolist() == [0, 1, 2]
    assert ranks_of(np.zeros((2, 5), dtype=np.float32), np.array([0, 4])).tolist() == [4, 4]
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
def test_all_or_nothing_of_few_says_little(hit: bool) -> None:
    found = percentage(np.full(10, hit))
    ten, one = (69.2, 2.5) if hit else (100 - 69.2, 97.5)  # of Clopper and Pearson's tables
    assert (found.value, found.high if hit else found.low) == ((100, 100) if hit else (0, 0))
    assert (found.low if hit else found.high) == pytest.approx(ten, abs=0.05)
    single = percentage(np.full(1, hit))
    assert (single.low if hit else single.high) == pytest.approx(one)


def test_a_difference_is_resampled_in_pairs() -> None:
    generator = np.random.default_rng(0)
    hits = generator.random(500) < 0.5
    other = hits.copy()
    other[:5] = ~other[:5]
    found = paired_difference(hits, other)
    assert abs(found.value) <= 1
    assert found.high - found.low < 2.5 < percentage(hits).high - percentage(hits).low
    assert paired_difference(hits, hits) == Interval(value=0, low=0, high=0)


def test_blocks_of_rows_give_the_ranks_of_the_whole_and_nan_among_ones_own_captions_is_no_hit() -> None:
    generator = np.random.default_rng(1)
    images, texts = (generator.standard_normal((count, 4)).astype(np.float32) for count in (600, 1200))
    owners = np.repeat(np.arange(600), 2)
    to_text, to_image = retrieval_ranks(images, texts, owners)
    similarity = images @ texts.T
    for number in (0, 255, 256, 599):
        best = similarity[number, 2 * number : 2 * number + 2].max()
        assert to_text[number] == (similarity[number] > best).sum()
    assert to_image.tolist() == ranks_of(similarity.T.copy(), owners).tolist()
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
    # McNemar: the variance of (24 - 9) / 2000 is (24 + 9 - 15 ** 2 / 2000) / 2000 ** 2; half a flip more each way.
    assert loss.error == pytest.approx(2.178 * 100 * np.sqrt(34 - 225 / 2000) / 2000)
    assert paired_loss(before, after, exact=True).error == pytest.approx(2.178 * 100 * np.sqrt(33 - 225 / 2000) / 2000)


def test_looks_at_the_same_examples_count_as_one_draw() -> None:
    before, after = np.ones((4, 500), bool), np.ones((4, 500), bool)
    after[:, :5] = False  # the same five in every look: no more is known than from one
    same, one = paired_loss(before, after), paired_loss(before[0], after[0])
    assert (same.lost, same.won, same.looks, same.squares) == (20, 0, 4, 80)
    assert same.points == one.points == pytest.approx(1.0)
    assert same.error == pytest.approx(2.178 * 100 * np.sqrt(81 - 400 / 500) / 2000)
    assert one.error > same.error > 0.9 * one.error
    for look in range(4):
        after[look] = True
        after[look, 5 * look : 5 * look + 5] = False  # others in every look
    assert paired_loss(before, after).error < 0.55 * one.error


def test_divergence_is_that_of_the_softmax_over_candidates() -> None:
    random = np.random.default_rng(0)
    images, texts = (unit(random.normal(size=(size, 8)).astype(np.float32)) for size in (300, 20))
    assert divergence(images, images, (texts, texts), 100.0) == 0.0
    other = unit(images + np.float32(0.2))
    own, found = (torch.from_numpy(10 * rows @ texts.T).double().log_softmax(1) for rows in (images, other))
    wanted = torch.nn.functional.kl_div(found, own, reduction="batchmean", log_target=True)
    assert divergence(images, other, (texts, texts), 10.0) == pytest.approx(float(wanted), rel=1e-4)


def test_a_loss_within_chance_of_its_bound_is_undecided() -> None:
    half = Loss(24, 9, 2000)  # 0.75, and 0.63 to either side
    assert half.more_for(0.0) is None
    assert (half.side(0.0), half.side(0.5), half.side(2.0)) == (1, None, -1)
    assert half.describe(2.0) == "+0.75 ± 0.63 points (24 lost, 9 won)"
    assert half.describe(0.5).endswith("at most 0.5 points are lost; about 10,542 more would do")
    more = half.more_for(0.5)
    assert 6 * 2000 < 2000 + more < 7 * 2000
    assert [Loss(24 * n, 9 * n, 2000 * n).side(0.5) for n in (6, 7)] == [None, 1]
    assert (
        Loss(10, 0, 2000)
        .describe(0.5)
        .endswith("are too few to show that at most 0.5 points are lost; no number would do")
    )
    assert Loss(0, 0, 2000).describe(0.5) == "+0.00 ± 0.11 points (0 lost, 0 won)"
    assert Loss(0, 0, 16).side(0.5) is None  # nothing was lost on 16, which says little
    assert Loss(0, 0, 16, unseen=0).side(0.5) == -1
    assert (
        Loss(0, 0, 16)
        .describe(0.5)
        .endswith(
            "undecided: nothing changed, but 16 pictures are too few to show that at most 0.5 points are lost; "
            "about 420 more would do"
        )
    )
    assert "(3 lost, 0 won in 5 views)" in Loss(3, 0, 100, looks=5).describe(9)
