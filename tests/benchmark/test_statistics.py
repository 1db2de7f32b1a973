"""Statistics: what they are defined as, and what they are for."""

import numpy as np
import pytest

from mobileclip_deploy.benchmark.result import MedianInterval
from mobileclip_deploy.benchmark.statistics import median_interval, percentile, summarize, trend, trimmed_mean

ROUNDS = [[100, 300, 200], [900, 100, 500, 400, 700], [250, 150]]


def test_a_summary_is_what_its_definitions_say() -> None:
    """By hand; of three rounds the interval ends at the outermost resamples."""
    found = summarize(ROUNDS, [600, 2500, 400], 0.2)
    # In order: 100 100 150 200 250 300 400 500 700 900.
    assert (found.samples, found.minimum_ns, found.maximum_ns) == (10, 100, 900)
    assert (found.median_ns, found.mean_ns) == (275.0, 360.0)
    assert found.p90_ns == pytest.approx(720)  # a tenth of the way from 700 to 900
    assert found.p99_ns == pytest.approx(882)
    # The rounds lose 0, 1 and 0 samples at either end.
    assert found.trimmed_mean_ns == pytest.approx((600 + 500 + 400 + 700 + 400) / 8)
    assert found.last_over_first == 1.0  # medians of 250, 150 and of 100, 300
    assert found.rounds_median_ns == 200  # of 200, 500 and 200
    assert found.median_interval_ns.low == pytest.approx(100)
    assert found.median_interval_ns.high == pytest.approx(900)
    assert found.cpu_ns == 350.0


def test_a_round_without_cpu_time_has_none_and_one_without_samples_is_refused() -> None:
    assert summarize(ROUNDS, [600, None, 400], 0.2).cpu_ns is None
    with pytest.raises(ValueError, match="without samples"):
        summarize([[1], []], [None, None], 0.1)


@pytest.mark.parametrize("q", [0, 0.025, 0.5, 0.9, 0.99, 1])
@pytest.mark.parametrize("count", [1, 2, 9, 100])
def test_a_percentile_is_numpys(q: float, count: int) -> None:
    samples = np.random.default_rng(count).integers(1, 10**9, count)
    assert percentile(list(samples), q) == pytest.approx(np.percentile(samples, 100 * q), rel=1e-12)


def test_the_papers_mean_drops_ten_at_either_end_of_each_round() -> None:
    round_ = [10**9] * 10 + [1] * 10 + [500] * 30
    assert trimmed_mean([round_, round_], 0.2) == 500


def test_a_device_that_slows_down_has_a_trend_above_one_from_eight_samples_on() -> None:
    assert trend([100] * 10 + [200] * 10) == 2
    assert trend([100] * 7) is None
    assert trend([100, 100, 5, 5, 5, 5, 300, 300]) == 3


def test_the_interval_holds_the_median_and_narrows_with_more_samples() -> None:
    noise = np.random.default_rng(0).normal(10**6, 10**5, 4000).astype(int).tolist()
    few, many = (summarize([noise[:count]], [None], 0.1) for count in (20, 4000))
    for found in (few, many):
        assert found.median_interval_ns.low <= found.median_ns <= found.median_interval_ns.high
    width = [found.median_interval_ns.high - found.median_interval_ns.low for found in (few, many)]
    assert width[1] < width[0] / 5


def test_of_many_samples_4096_make_the_interval() -> None:
    samples = [1000] * 10_000
    for number in range(4096):
        samples[number * 10_000 // 4096] = 7
    assert summarize([samples], [None], 0.1).median_interval_ns.high == 7


@pytest.mark.parametrize(("rounds", "differ", "least"), [(5, 0.03, 90), (10, 0.03, 93), (5, 0.0, 90)])
def test_where_rounds_differ_the_interval_holds_the_true_median(rounds: int, differ: float, least: float) -> None:
    """Drawing samples alone it holds it in 23% of benchmarks (benchmarks/interval_coverage.py)."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        levels = np.exp(rng.normal(0, differ, rounds))[:, None]
        interval = median_interval((levels * np.exp(rng.normal(0, 0.02, (rounds, 20)))).tolist())
        held += interval.low <= 1 <= interval.high
    assert held >= least


def test_an_interval_is_of_rounds_where_they_differ_and_says_so_where_they_are_few() -> None:
    steady = [[value] * 100 for value in (100, 104, 96, 103, 97)]
    interval = median_interval(steady)
    assert (interval.low, interval.high) == (96, 104)
    assert median_interval(steady[:1]) == MedianInterval(low=100, high=100)
