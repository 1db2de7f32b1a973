"""How near a cell comes to what its cores can: the arithmetic operations of an inference, counted from shapes, how many
it does per second, and their share of the measured limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import CellResult, Peak
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.precision import is_precision, precision_of
from mobileclip_deploy.towers.arithmetic import tower_arithmetic

NARROW = 8
"""Bits of weights up to which a runtime may multiply integers."""
ELSEWHERE = ("gpu", "npu", "webgpu", "vulkan", "qnn", "coreml", "mps")
"""Backends that compute beside the cores, which are what is measured."""


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
