"""The summary of a cell's samples, for all devices: they send samples alone (docs/benchmark.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.result import MedianInterval, Summary

RESAMPLES = 1000
LARGEST_RESAMPLE = 4096
DRAWS_AT_ONCE = 1 << 16
Samples = Sequence[int]


def summarize(rounds: Sequence[Samples], cpu_ns: Sequence[int | None], trim_fraction: float) -> Summary:
    """Summarize the wall nanoseconds of a cell's rounds.

    Args:
        rounds: samples of each round, in the order they were taken; none is empty.
        cpu_ns: CPU nanoseconds of each round.
        trim_fraction: of a round's samples, dropped at each end for the trimmed mean.

    Raises:
        ValueError: there is no sample, or a round has none.
    """
    if not rounds or not all(rounds):
        raise ValueError("a round without samples cannot be summarized")
    samples = [sample for samples in rounds for sample in samples]
    known = [value for value in cpu_ns if value is not None]
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
        median_interval_ns=median_interval(samples),
        cpu_ns=sum(known) / len(samples) if len(known) == len(rounds) else None,
    )


def percentile(samples: Sequence[float], q: float) -> float:
    """Percentile `q` in [0, 1], interpolated linearly at position q (n - 1) of the sorted samples."""
    return float(np.quantile(samples, q))


def trimmed_mean(rounds: Sequence[Samples], fraction: float) -> float:
    """Mean of what is left when `floor(fraction * count)` samples of each round are dropped at both ends."""
    kept: list[int] = []
    for samples in rounds:
        dropped = int(fraction * len(samples))
        kept += sorted(samples)[dropped : len(samples) - dropped]
    return sum(kept) / len(kept)


def trend(samples: Samples) -> float | None:
    """Median of the last quarter over the median of the first; None below 8 samples, or of a first quarter of zeros."""
    quarter = len(samples) // 4
    if quarter < 2:
        return None
    first = percentile(samples[:quarter], 0.5)
    return percentile(samples[-quarter:], 0.5) / first if first else None


def median_interval(samples: Sequence[float]) -> MedianInterval:
    """95% percentile bootstrap interval of the median."""
    values = np.asarray(samples, dtype=np.float64)
    if len(values) > LARGEST_RESAMPLE:
        values = values[np.arange(LARGEST_RESAMPLE) * len(values) // LARGEST_RESAMPLE]
    count = len(values)
    at_once = max(1, DRAWS_AT_ONCE // count)
    medians: list[float] = []
    for first in range(0, RESAMPLES, at_once):
        last = min(first + at_once, RESAMPLES)
        drawn = values[_indices(first * count, last * count, count)].reshape(-1, count)
        medians += np.median(drawn, axis=1).tolist()
    return MedianInterval(low=percentile(medians, 0.025), high=percentile(medians, 0.975))


def _indices(start: int, end: int, count: int) -> npt.NDArray[np.int64]:
    """Draws number `start` to `end` of all: integers below `count`.

    A fixed stream of SplitMix64 and not NumPy's generators, whose draws may change with its version: a published
    interval comes out of its samples again wherever it is computed.
    """
    z = (np.arange(start, end, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)) % np.uint64(count)).astype(np.int64)
