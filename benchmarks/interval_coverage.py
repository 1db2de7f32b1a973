"""How often the 95% interval of a median holds the true one.

    python benchmarks/interval_coverage.py

Simulates benchmarks: medians of rounds differ by a share (process, core, clock, load), and samples of a round by 2%,
with one of 50 half as slow again. The true median is 1. `samples` is the interval of a bootstrap that draws samples
alone, which was in use until 0.4.0; `rounds` is `median_interval`. Then, of the results in benchmarks/results/: how
often a round that is left out lies within the interval of the other rounds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.result import MedianInterval
from mobileclip_deploy.benchmark.statistics import median_interval

BENCHMARKS = 200
RESULTS = Path(__file__).parent / "results"
Interval = Callable[[Sequence[Sequence[float]]], MedianInterval]
# Rounds, samples of each, and the share by which medians of rounds differ.
CASES = ((5, 100, 0.0), (5, 100, 0.01), (5, 100, 0.03), (5, 400, 0.03), (10, 100, 0.03), (3, 100, 0.03), (2, 100, 0.03))


def by_samples(rounds: Sequence[Sequence[float]]) -> MedianInterval:
    """Percentiles of medians of samples that are drawn from all rounds together."""
    values = np.concatenate([np.asarray(one, np.float64) for one in rounds])
    drawn = np.random.default_rng(0).choice(values, (1000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return MedianInterval(low=float(low), high=float(high))


def benchmark(rounds: int, samples: int, differ: float, rng: np.random.Generator) -> list[list[float]]:
    """Samples of each round of a simulated benchmark."""
    levels = np.exp(rng.normal(0, differ, rounds))[:, None]
    noise = np.exp(rng.normal(0, 0.02, (rounds, samples)))
    slow = np.where(rng.random((rounds, samples)) < 0.02, 1.5, 1.0)
    # A slow sample moves the median by as much as one of a hundred does: the true one is that of all samples.
    values: npt.NDArray[np.float64] = levels * noise * slow
    return values.tolist()


def coverage(interval: Interval, case: tuple[int, int, float], true: float) -> float:
    """Percent of simulated benchmarks whose interval holds the true median."""
    rng = np.random.default_rng(1)
    intervals = [interval(benchmark(*case, rng)) for _ in range(BENCHMARKS)]
    return 100 * sum(one.low <= true <= one.high for one in intervals) / len(intervals)


def true_median() -> float:
    """Median of samples of all rounds: levels are symmetric about 1."""
    return float(np.median(benchmark(1, 4_000_000, 0.0, np.random.default_rng(2))))


def left_out(interval: Interval) -> tuple[int, int]:
    """Rounds of stored results whose median lies within the interval of the others, and all of them."""
    held = count = 0
    for path in sorted(RESULTS.glob("*-[0-9].json")):
        if path.name.startswith("guard-"):  # a round has one figure there
            continue
        for cell in read_result(path).cells:
            rounds = [one.samples_ns for one in cell.rounds if one.samples_ns]
            for number in range(len(rounds)) if len(rounds) > 2 else ():
                others = interval([*rounds[:number], *rounds[number + 1 :]])
                held += others.low <= float(np.median(rounds[number])) <= others.high
                count += 1
    return held, count


def main() -> None:
    """Prints both tables."""
    true = true_median()
    print("rounds  samples  rounds differ by  by samples  by rounds")
    for case in CASES:
        shares = [coverage(interval, case, true) for interval in (by_samples, median_interval)]
        print(f"{case[0]:6} {case[1]:8} {case[2]:17.0%} {shares[0]:10.1f}% {shares[1]:9.1f}%")
    for name, interval in (("by samples", by_samples), ("by rounds", median_interval)):
        held, count = left_out(interval)
        print(f"{name}: {held} of {count} rounds that were left out lie within the interval of the others")


if __name__ == "__main__":
    main()
