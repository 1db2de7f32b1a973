"""Ratios of CPU times with their intervals, over all runs of a suite; what is known well enough to stop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import CellResult, Result
from mobileclip_deploy.benchmark.statistics import median_interval, percentile

__all__ = ["STEADY", "Based", "Ratio", "Row", "cpu_by_round", "ratio_of", "ratio_rows", "unsteady"]

STEADY = 0.05


class Based(Protocol):
    """What ratios are taken to: the cell with the words `base` in its label and place, in common with each the fields
    `within`."""

    @property
    def base(self) -> str: ...

    @property
    def within(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as its base: the median over rounds, and its 95% bootstrap interval. Of each round the
    inference that took the least CPU time counts: at a load of 20 on two cores, means of rounds of one cell differed
    by half of their value, the least of 400 inferences by a tenth."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def width(self) -> float:
        """Width of the interval, as a share of the ratio."""
        return (self.high - self.low) / self.value


@dataclass(frozen=True)
class Row:
    """A cell as the first run has it, and its ratio over all runs; `is_base`: the others' ratios are taken to it."""

    cell: Cell
    found: CellResult
    ratio: Ratio
    is_base: bool


def ratio_rows(suite: Based, runs: Sequence[Result]) -> Iterator[Row]:
    """Every cell of the first run. A round of a cell is held against its base's of the same number in the same run:
    what disturbs the machine for longer than a round disturbs both."""
    for index, (cell, found) in enumerate(runs[0].pairs()):
        base = _base(suite, runs[0], cell)
        ratios = [
            other / own
            for run in runs
            for own, other in zip(cpu_by_round(run.cells[index]), cpu_by_round(run.cells[base]), strict=True)
        ]
        yield Row(cell, found, ratio_of(ratios), base == index)


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """Returns the median of the rounds' ratios with its interval."""
    interval = median_interval([[ratio] for ratio in ratios])
    return Ratio(percentile(ratios, 0.5), interval.low, interval.high, len(ratios))


def unsteady(suite: Based, runs: Sequence[Result]) -> list[Row]:
    """The rows whose interval is not narrower than `STEADY`."""
    return [row for row in ratio_rows(suite, runs) if row.ratio.width >= STEADY]


def _base(suite: Based, run: Result, cell: Cell) -> int:
    return next(
        number
        for number, other in enumerate(run.job.cells)
        if suite.base in f"{other.label} {other.runtime} {other.backend}"
        and other.tower == cell.tower
        and all(getattr(other, field) == getattr(cell, field) for field in suite.within)
    )


def cpu_by_round(found: CellResult) -> list[float]:
    """Returns the CPU time of an inference in nanoseconds, round by round: the least, or the mean in older results."""
    assert all(one.cpu_ns is not None for one in found.rounds), found.id
    if all(one.cpu_least_ns for one in found.rounds):
        return [float(one.cpu_least_ns or 0) for one in found.rounds]
    return [(one.cpu_ns or 0) / len(one.samples_ns) for one in found.rounds]
