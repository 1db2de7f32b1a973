"""How near each operator of a profiled cell comes to what its cores can: a roofline, as rows, spots and sentences.

The model is that of Williams, Waterman and Patterson (https://doi.org/10.1145/1498765.1498785): an operator can be no
faster than its arithmetic, and no faster than its bytes can be had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.limit import peak_of
from mobileclip_deploy.benchmark.result import CellResult, OperatorTime, Peak, Result

__all__ = ["Roofline", "Share", "limit_of", "operator_shares", "roofline", "rooflines"]

NAMED = 3
WORTH_NAMING = 5.0
"""Percent of the time."""


@dataclass(frozen=True)
class Share:
    """An operator's part in one inference: of its time in percent; operations a second, and in percent of the limit of
    the arithmetic that it runs in; bytes a second, and operations a byte. None where that is not known, or is none."""

    name: str
    calls: int
    total_ns: int
    time_percent: float
    arithmetic: str | None = None
    per_second: float | None = None
    limit_percent: float | None = None
    bytes_per_second: float | None = None
    per_byte: float | None = None


@dataclass(frozen=True)
class Roofline:
    """A cell's operators and the limit that they are held against. `reached_percent`: of the whole, the time that its
    products and convolutions would take at the limit, each in its own arithmetic."""

    cell: Cell
    peak: Peak
    shares: tuple[Share, ...]
    reached_percent: float

    def sentences(self) -> tuple[str, ...]:
        """`This tower reaches 41% of the limit of its cores (int8)`; then what takes most of the time, and how near to
        the limit it is."""
        used = sorted({share.arithmetic for share in self.shares if share.arithmetic})
        found = [f"This tower reaches {self.reached_percent:.0f}% of the limit of its cores ({' and '.join(used)})"]
        largest = sorted(self.shares, key=lambda share: -share.time_percent)[:NAMED]
        found += [_sentence(share) for share in largest if share.time_percent >= WORTH_NAMING]
        return tuple(found)


def operator_shares(profile: Sequence[OperatorTime], peak: Peak | None = None) -> tuple[Share, ...]:
    """A row for each operator, the most expensive first; without a limit there are no shares of it."""
    whole = sum(one.total_ns for one in profile) or 1
    return tuple(_share(one, whole, peak) for one in profile)


def roofline(cell: Cell, found: CellResult, peaks: Sequence[Peak]) -> Roofline | None:
    """Of a cell that was profiled where the limit of its threads was measured; None of others, and of runtimes that do
    not tell what their operators compute."""
    peak = peak_of(cell, peaks)
    if peak is None or not any(one.work and one.work.arithmetic_operations for one in found.profile):
        return None
    whole = sum(one.total_ns for one in found.profile)
    least = sum(_least_ns(one, peak) for one in found.profile)
    return Roofline(cell, peak, operator_shares(found.profile, peak), 100 * least / whole if whole else 0.0)


def rooflines(result: Result) -> tuple[Roofline, ...]:
    """Of every cell that has one."""
    return tuple(_all(result))


def _all(result: Result) -> Iterator[Roofline]:
    for cell, found in result.pairs():
        drawn = roofline(cell, found, result.peaks)
        if drawn is not None:
            yield drawn


def limit_of(peak: Peak, arithmetic: str | None) -> float | None:
    """Operations a second that the cores reached in this arithmetic; None where that was not measured."""
    known = {"float32": peak.float32_operations_per_second, "int8": peak.int8_operations_per_second}
    return known.get(arithmetic or "")


def _least_ns(one: OperatorTime, peak: Peak) -> float:
    limit = limit_of(peak, one.work.arithmetic) if one.work else None
    return one.work.arithmetic_operations / limit * 1e9 if one.work and limit else 0.0


def _share(one: OperatorTime, whole: int, peak: Peak | None) -> Share:
    work = one.work
    name = f"{one.operator} {work.kind}" if work and work.kind else one.operator
    known = Share(name, one.calls, one.total_ns, 100 * one.total_ns / whole)
    if work is None or not one.total_ns:
        return known
    moved = work.moved_bytes / one.total_ns * 1e9
    if not work.arithmetic_operations:
        return Share(name, one.calls, one.total_ns, known.time_percent, bytes_per_second=moved)
    speed = work.arithmetic_operations / one.total_ns * 1e9
    limit = limit_of(peak, work.arithmetic) if peak else None
    return Share(
        name,
        one.calls,
        one.total_ns,
        known.time_percent,
        work.arithmetic,
        speed,
        100 * speed / limit if limit else None,
        moved,
        work.arithmetic_operations / work.moved_bytes if work.moved_bytes else None,
    )


def _sentence(share: Share) -> str:
    took = f"{share.name} takes {share.time_percent:.0f}% of the time"
    if share.limit_percent is not None:
        return f"{took} at {share.limit_percent:.0f}% of {share.arithmetic}'s limit"
    return took if share.per_second else f"{took} and multiplies nothing"
