"""Summary of the samples of a cell, for all devices: these send samples only (docs/measuring.md)."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.result import MedianInterval, Summary

RESAMPLES = 1000
LARGEST_RESAMPLE = 4096
DRAWS_AT_ONCE = 1 << 16
LEAST_ROUNDS = 5
"""Minimum number of rounds for a 95% interval: all of N rounds are on one side of the median in 2 of 2^N benchmarks."""
Samples = Sequence[int]


def summarize(rounds: Sequence[Samples], cpu_ns: Sequence[int | None], trim_fraction: float) -> Summary:
    """Returns statistics of the wall nanoseconds of a cell's rounds.

    Args:
        rounds: samples of each round, in the order of measurement; none is empty.
        cpu_ns: CPU nanoseconds of each round.
        trim_fraction: share of a round's samples that is dropped at each end for the trimmed mean.

    Raises:
        ValueError: there is no sample, or a round has none.
    """
    if not rounds or not all(rounds):
        raise ValueError("a round without samples cannot be summarized")
    samples = [sample for samples in rounds for sample in samples]
    measured = [value for value in cpu_ns if value is not None]
    return Summary(
        samples=len(samples),
        median_ns=percentile(samples, 0.5),
        p90_ns=percentile(samples, 0.9),
        p99_ns=percentile(samples, 0.99),
        mean_ns=sum(samples) / len(samples),
        trimmed_mean_ns=trimmed_mean(rounds, trim_fraction),
        minimum_ns=min(samples),
        maximum_ns=max(samples),
        last_over_first=trend(samples),
        rounds_median_ns=percentile([percentile(samples, 0.5) for samples in rounds], 0.5),
        median_interval_ns=median_interval(rounds),
        cpu_ns=sum(measured) / len(samples) if len(measured) == len(rounds) else None,
    )


def percentile(samples: Sequence[float], q: float) -> float:
    """Returns percentile `q` in [0, 1], interpolated linearly at position q (n - 1) of the sorted samples."""
    return float(np.quantile(samples, q))


def trimmed_mean(rounds: Sequence[Samples], fraction: float) -> float:
    """Returns the mean of the samples without the `floor(fraction * count)` lowest and highest of each round."""
    remaining: list[int] = []
    for samples in rounds:
        dropped = int(fraction * len(samples))
        remaining += sorted(samples)[dropped : len(samples) - dropped]
    return sum(remaining) / len(remaining)


def trend(samples: Samples) -> float | None:
    """Returns the median of the last quarter over the median of the first; None below 8 samples, or if the first is
    0."""
    quarter = len(samples) // 4
    if quarter < 2:
        return None
    first = percentile(samples[:quarter], 0.5)
    return percentile(samples[-quarter:], 0.5) / first if first else None


def median_interval(rounds: Sequence[Sequence[float]]) -> MedianInterval:
    """Returns the 95% interval of the median of rounds' medians: a bootstrap that draws rounds first, and then samples
    of each.

    Rounds differ more than samples do: process, core, clock and load change between them. The percentiles are expanded
    for few rounds (Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789). Below `LEAST_ROUNDS` they are the
    outermost, and still too narrow; with one round the interval says nothing about other rounds.
    """
    count = len(rounds)
    chosen = _indices(0, RESAMPLES * count, count)
    medians = np.empty(RESAMPLES * count)
    drawn = RESAMPLES * count
    for index, samples in enumerate(rounds):
        positions = np.flatnonzero(chosen == index)
        medians[positions] = _resampled_medians(_thinned(samples, LARGEST_RESAMPLE // count), len(positions), drawn)
        drawn += len(positions) * len(samples)
    statistics = np.median(medians.reshape(RESAMPLES, count), axis=1)
    low, high = np.quantile(statistics, (tail := _tail(count), 1 - tail))
    return MedianInterval(low=float(low), high=float(high))


def _tail(rounds: int) -> float:
    """Returns the share of the resamples on either side of the interval: that of a normal distribution beyond Student's
    t."""
    if rounds == 1:
        return 0.025
    if rounds < LEAST_ROUNDS:
        return 0.0
    z, n = NormalDist().inv_cdf(0.975), rounds - 1
    # Cornish and Fisher's expansion: within 0.01 of Student's t from 4 degrees of freedom on.
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return NormalDist().cdf(-math.sqrt(rounds / n) * t)


def _thinned(samples: Sequence[float], most: int) -> npt.NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64)
    return values[np.arange(most) * len(values) // most] if len(values) > most else values


def _resampled_medians(values: npt.NDArray[np.float64], times: int, first: int) -> npt.NDArray[np.float64]:
    """Returns the medians of `times` resamples with replacement; `first` is the offset in the stream of integers."""
    count = len(values)
    at_once = max(1, DRAWS_AT_ONCE // count)
    medians = [np.empty(0)]
    for start in range(0, times, at_once):
        end = min(start + at_once, times)
        drawn = values[_indices(first + start * count, first + end * count, count)].reshape(-1, count)
        medians.append(np.median(drawn, axis=1))
    return np.concatenate(medians)


def _indices(start: int, end: int, count: int) -> npt.NDArray[np.int64]:
    """Returns draws `start` to `end` of a fixed stream, as integers below `count`.

    The stream is SplitMix64. NumPy's generators may change their draws with the version, and a published interval must
    be reproducible from its samples on any machine.
    """
    z = (np.arange(start, end, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)) % np.uint64(count)).astype(np.int64)
