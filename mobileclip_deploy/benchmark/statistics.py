"""The summary of a cell's samples, defined so that Python, C++ and Swift compute the same (docs/benchmark.md).

python -m mobileclip_deploy.benchmark.statistics tests/benchmark/statistics_vectors.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.result import Interval, Summary

__all__ = ["median_interval", "percentile", "summarize", "trend", "trimmed_mean"]

RESAMPLES = 1000
LARGEST_RESAMPLE = 4096
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
    ordered = sorted(samples)
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


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


def median_interval(samples: Samples) -> Interval:
    """95% percentile bootstrap interval of the median, from a fixed stream of SplitMix64."""
    values = np.asarray(samples, dtype=np.float64)
    if len(values) > LARGEST_RESAMPLE:
        values = values[np.arange(LARGEST_RESAMPLE) * len(values) // LARGEST_RESAMPLE]
    count = len(values)
    medians = [
        float(np.median(values[_indices(number * count, count)]))  # numpy's median is percentile 0.5
        for number in range(RESAMPLES)
    ]
    return Interval(low=percentile(medians, 0.025), high=percentile(medians, 0.975))


def _indices(start: int, count: int) -> npt.NDArray[np.int64]:
    """Draws number `start` to `start + count` of all: integers below `count`."""
    z = (np.arange(start, start + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)) % np.uint64(count)).astype(np.int64)


def _vectors() -> list[dict[str, Any]]:
    """Inputs that tell implementations apart: ties, one sample, rounds of different length, more than 4,096 samples."""
    noise = [int(value) for value in 1_000_000 + _indices(7, 5000) * 37]
    cases: dict[str, tuple[list[list[int]], list[int | None], float]] = {
        "one sample": ([[1234567]], [1200000], 0.1),
        "seven samples": ([[7, 3, 9, 1, 5, 8, 2]], [40], 0.1),
        "eight samples, even median": ([[10, 20, 30, 40, 50, 60, 70, 81]], [None], 0.2),
        "ties": ([[5, 5, 5, 5], [5, 5, 6, 5]], [20, 21], 0.25),
        "rounds of different length": ([[100, 300, 200], [900, 100, 500, 400, 700], [250, 150]], [600, 2500, 400], 0.2),
        "paper: 20 rounds of 50": ([noise[i * 50 : i * 50 + 50] for i in range(20)], [50_000_000] * 20, 0.2),
        "a rising trend": ([[1000 + 10 * i for i in range(40)], [1400 + 10 * i for i in range(40)]], [None, 7], 0.1),
        "more than 4,096 samples": ([noise[:2500], noise[2500:]], [2_700_000_000, 2_800_000_000], 0.1),
    }
    return [
        {
            "name": name,
            "rounds_ns": rounds,
            "cpu_ns": cpu,
            "trim_fraction": trim,
            "summary": summarize(rounds, cpu, trim).model_dump(mode="json"),
        }
        for name, (rounds, cpu, trim) in cases.items()
    ]


if __name__ == "__main__":
    text = json.dumps({"schema_version": 1, "tolerance_relative": 1e-9, "vectors": _vectors()}, separators=(",", ":"))
    Path(sys.argv[1]).write_text(text.replace('{"name"', '\n{"name"') + "\n", encoding="utf-8")
