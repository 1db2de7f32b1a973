"""How near a cell comes to what its cores can: the arithmetic operations of an inference, counted from shapes, how many
it does per second, and their share of the measured limit; and how near each operator of a profiled cell comes.

The model of operators, a roofline, is that of Williams, Waterman and Patterson
(https://doi.org/10.1145/1498765.1498785): an operator can be no faster than its arithmetic, and no faster than its
bytes can be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobileclip_deploy.artifacts.towers.arithmetic import tower_arithmetic
from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import CellResult, OperatorTime, Peak, Result
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.precision import is_precision, precision_of

NARROW = 8
"""Bits of weights up to which a runtime may multiply integers."""
ELSEWHERE = ("gpu", "npu", "webgpu", "vulkan", "qnn", "coreml", "mps")
"""Backends that compute beside the cores, which are what is measured."""
TIMES_ALONE = ("operator", "calls", "ms", "time, %")
OPERATOR_COLUMNS = (*TIMES_ALONE, "arithmetic", "GOP/s", "of its limit, %", "GB/s", "operations a byte")
SHOWN = 12
"""More rows of a profile than this say little."""


@dataclass(frozen=True)
class Reached:
    """Multiplications and additions a second, and in percent of the limit in float32; in int8 of files whose weights
    have 8 bits or fewer, whether or not their runtime multiplies integers."""

    per_second: float
    float32_percent: float
    int8_percent: float | None


def peak_of(cell: Cell, peaks: Sequence[Peak]) -> Peak | None:
    """What a cell is held against: the limit of the cores at its number of threads; None where that was not measured,
    or the cell may compute elsewhere."""
    return next((one for one in peaks if one.threads == cell.threads), None) if on_cores(cell) else None


def on_cores(cell: Cell) -> bool:
    """Whether a cell computes on the cores alone."""
    return cell.compute_units in (None, "cpuOnly") and cell.backend not in ELSEWHERE


def reached(cell: Cell, found: CellResult, peaks: Sequence[Peak]) -> Reached | None:
    """By CPU time at one thread, as the limit was measured, and by the median at several.

    None where the cell has no figures, its arithmetic is not known, or there is no limit to hold it against.
    """
    peak = peak_of(cell, peaks)
    summary = found.summary if found.status == "done" else None
    if peak is None or summary is None or found.arithmetic_operations is None:
        return None
    spent = summary.cpu_ns if cell.threads == 1 and summary.cpu_ns else summary.median_ns
    speed = found.arithmetic_operations / spent * 1e9
    stored = precision_of(cell.precision) if cell.precision and is_precision(cell.precision) else None
    integers = peak.int8_operations_per_second if stored is not None and stored.bits <= NARROW else None
    return Reached(
        per_second=speed,
        float32_percent=100 * speed / peak.float32_operations_per_second,
        int8_percent=None if integers is None else 100 * speed / integers,
    )


def arithmetic_of(cell: Cell) -> int | None:
    """Arithmetic operations of one inference of a cell; None where the file's variant is not known here, such as in a
    file of others.

    They are those of the network with all branches folded, also for a cell of torch that runs it unfolded.
    """
    if cell.variant is None:
        return None
    shape = cell.input.shape
    length = shape[-1] if cell.tower == "text" else min(shape[-2:]) if len(shape) == 4 else shape[0]
    try:
        return tower_arithmetic(cell.variant, cell.tower, length)
    except UsageError:  # of a card that is not here, or a size that it cannot have
        return None


def describe_peak(peak: Peak) -> str:
    """`1 thread: 95 GOP/s in float32, 379 in int8 (onnxruntime 1.32.0, ...); memory copied at 25 GB/s`"""
    integers = (
        "" if peak.int8_operations_per_second is None else f", {peak.int8_operations_per_second / 1e9:.0f} in int8"
    )
    cached = f", in a cache at {peak.cached_bytes_per_second / 1e9:.0f}" if peak.cached_bytes_per_second else ""
    reached = f"{peak.float32_operations_per_second / 1e9:.0f} GOP/s in float32{integers}"
    product = f"a product of {peak.side} x {peak.side} matrices in {peak.engine}"
    copied = f"memory copied at {peak.copied_bytes_per_second / 1e9:.0f} GB/s{cached}"
    return f"{peak.threads} thread{'s' if peak.threads > 1 else ''}: {reached} ({product}); {copied}"


@dataclass(frozen=True)
class Share:
    """An operator's part in one inference: of its time in percent; operations per second, and in percent of the limit
    of the arithmetic that it runs in; bytes per second, and operations per byte. None where that is not known, or is
    none."""

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

    @property
    def summary(self) -> str:
        """`This tower reaches 41% of the limit of its cores (int8)`"""
        used = sorted({share.arithmetic for share in self.shares if share.arithmetic})
        return f"This tower reaches {self.reached_percent:.0f}% of the limit of its cores ({' and '.join(used)})"


def operator_shares(profile: Sequence[OperatorTime], peak: Peak | None = None) -> tuple[Share, ...]:
    """A row for each operator, the most expensive first; without a limit there are no shares of it."""
    whole = sum(one.total_ns for one in profile) or 1
    return tuple(_share(one, whole, peak) for one in profile)


def roofline(cell: Cell, found: CellResult, peaks: Sequence[Peak]) -> Roofline | None:
    """Roofline of a cell that was profiled where the limit of its threads was measured. None for other cells, and for
    runtimes that do not tell what their operators compute."""
    peak = peak_of(cell, peaks)
    if peak is None or not any(one.work and one.work.arithmetic_operations for one in found.profile):
        return None
    shares = operator_shares(found.profile, peak)
    if not any(one.per_second and one.per_byte for one in shares):  # of 0 ns, or 0 bytes: none has a place
        return None
    whole = sum(one.total_ns for one in found.profile)
    limits = [(one.work, limit_of(peak, one.work.arithmetic)) for one in found.profile if one.work]
    least = sum(work.arithmetic_operations / limit * 1e9 for work, limit in limits if limit)
    return Roofline(cell, peak, shares, 100 * least / whole if whole else 0.0)


def rooflines(result: Result) -> tuple[Roofline, ...]:
    """Rooflines of all cells that have one."""
    return tuple(one for cell, found in result.pairs() if (one := roofline(cell, found, result.peaks)) is not None)


def limit_of(peak: Peak, arithmetic: str | None) -> float | None:
    """Operations per second that the cores reached in this arithmetic; None where that was not measured."""
    known = {"float32": peak.float32_operations_per_second, "int8": peak.int8_operations_per_second}
    return known.get(arithmetic or "")


def _share(one: OperatorTime, whole: int, peak: Peak | None) -> Share:
    work, spent = one.work, one.total_ns
    moved = work.moved_bytes if work and spent else None
    products = work.arithmetic_operations if work and spent else 0
    speed = products / spent * 1e9 if products else None
    limit = limit_of(peak, work.arithmetic) if work and peak else None
    return Share(
        name=f"{one.operator} {work.kind}" if work and work.kind else one.operator,
        calls=one.calls,
        total_ns=spent,
        time_percent=100 * spent / whole,
        arithmetic=work.arithmetic if work and products else None,
        per_second=speed,
        limit_percent=100 * speed / limit if speed and limit else None,
        bytes_per_second=None if moved is None else moved / spent * 1e9,
        per_byte=products / moved if products and moved else None,
    )


def operator_rows(shares: Sequence[Share]) -> tuple[tuple[str, ...], ...]:
    """One row per operator, with the columns `OPERATOR_COLUMNS`. The most expensive comes first, the rest last.

    The columns are `TIMES_ALONE` where it is known of no operator what it computes.
    """
    known = any(share.bytes_per_second is not None for share in shares)
    rows = [_row(share) if known else _row(share)[: len(TIMES_ALONE)] for share in shares[:SHOWN]]
    if rest := shares[SHOWN:]:
        calls, spent = sum(one.calls for one in rest), sum(one.total_ns for one in rest)
        rows.append(
            _row(Share(f"{len(rest)} others", calls, spent, sum(one.time_percent for one in rest)))[: len(rows[0])]
        )
    return tuple(rows)


def _row(share: Share) -> tuple[str, ...]:
    return (
        share.name,
        str(share.calls),
        f"{share.total_ns / 1e6:.3f}",
        f"{share.time_percent:.1f}",
        share.arithmetic or "",
        _number(share.per_second, 1e9),
        _number(share.limit_percent, 1),
        _number(share.bytes_per_second, 1e9),
        _number(share.per_byte, 1),
    )


def _number(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}" if value / unit < 100 else f"{value / unit:.0f}"
