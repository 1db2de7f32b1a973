"""The table of a benchmark's result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.cli.output import print_table
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.benchmark.job import Cell
    from mobileclip_deploy.benchmark.result import CellResult, Result

__all__ = ["print_result"]


def print_result(result: Result) -> None:
    """One row a cell; what a figure's reader should know stands under the table."""
    from mobileclip_deploy.benchmark.neural_engine import neural_engine_evidence, planned_placement
    from mobileclip_deploy.benchmark.report.points import device_name
    from mobileclip_deploy.benchmark.report.table import specializes

    statistic = result.job.protocol.statistic
    figures = [f">{statistic.replace('_', ' ')} ms", ">95% of median", ">p90 ms", ">CPU ms", ">load ms", ">MB memory"]
    specializing = specializes(result)
    if specializing:
        figures.insert(4, ">specialize ms")
    columns = ["what", "where", ">threads", *figures, "answers", "warnings"]
    rows = []
    for asked, found in result.pairs():
        where = " ".join(part for part in (asked.runtime, asked.backend, asked.compute_units) if part)
        warnings = ", ".join(dict.fromkeys(text.partition(":")[0] for text in found.warnings))
        told = _figures(found, statistic)
        if specializing:
            told.insert(4, _milliseconds(found.specialization_ns))
        rows.append([asked.label, where, str(asked.threads), *told, _answers(found, result.self_reported), warnings])
    simulated = " SIMULATED" if result.device.simulated else ""
    device = device_name(result).partition(": ")[2]
    print_table(f"{device}:{simulated} protocol {result.job.protocol.name}, seed {result.job.seed}", columns, rows)
    for asked, found in result.pairs():
        if found.profile:
            _print_profile(asked, found, result)
    _print_limits(result)
    versions = ", ".join(f"{name} {version}" for name, version in result.runtimes.items())
    say(f"run {result.run_id}; {versions}")
    for label, text in planned_placement(result):
        say(f"{label}: {text}")
    for one in neural_engine_evidence(result):
        say(f"{one.label}: {one.text}")
    say("what the warnings mean: `mobileclip-deploy report` says it in full, and so does docs/benchmark.md")


def _print_limits(result: Result) -> None:
    """How near each cell comes to what its cores can, where that was measured."""
    from mobileclip_deploy.benchmark.limit import describe_peak, reached

    rows = []
    for asked, found in result.pairs():
        near = reached(asked, found, result.peaks)
        if near is not None:
            shares = (near.float32_percent, near.int8_percent)
            told = ("" if share is None else f"{share:.0f}" for share in shares)
            where = " ".join(part for part in (asked.runtime, asked.backend) if part)
            rows.append([asked.label, where, str(asked.threads), f"{near.per_second / 1e9:.3g}", *told])
    if rows:
        columns = ["what", "where", ">threads", ">GOP/s", ">% of float32's limit", ">% of int8's limit"]
        print_table("how near to the limit of these cores", columns, rows)
        for peak in result.peaks:
            say(f"limit at {describe_peak(peak)}")


def _print_profile(asked: Cell, found: CellResult, result: Result) -> None:
    """The most expensive operators, and the others in one row; and how near they come to the limit."""
    from mobileclip_deploy.benchmark.limit import peak_of
    from mobileclip_deploy.benchmark.roofline import OPERATOR_COLUMNS, operator_rows, operator_shares, roofline

    rows = [list(row) for row in operator_rows(operator_shares(found.profile, peak_of(asked, result.peaks)))]
    names = OPERATOR_COLUMNS[: len(rows[0])]
    columns = [name if name in ("operator", "arithmetic") else f">{name}" for name in names]
    print_table(f"{asked.label}, {asked.threads} thread(s): one inference by operator", columns, rows)
    drawn = roofline(asked, found, result.peaks)
    if drawn is not None:
        say(drawn.summary)


def _figures(found: CellResult, statistic: str) -> list[str]:
    summary = found.summary
    memory = f"{found.peak_memory_bytes / 1e6:.0f}" if found.peak_memory_bytes is not None else ""
    if summary is None:
        return [found.status, "", "", "", _milliseconds(found.load_first_ns), memory]
    low, high = summary.median_interval_ns.low, summary.median_interval_ns.high
    return [
        _milliseconds(getattr(summary, f"{statistic}_ns")),
        f"{_milliseconds(low)} to {_milliseconds(high)}",
        _milliseconds(summary.p90_ns),
        _milliseconds(summary.cpu_ns),
        _milliseconds(found.load_first_ns),
        memory,
    ]


def _milliseconds(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return ""
    value = nanoseconds / 1e6
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _answers(found: CellResult, self_reported: bool) -> str:
    if found.status in ("failed", "skipped"):
        return found.error or found.status
    if any(text.startswith("impossible:") for text in found.warnings):
        return "impossible times"
    if self_reported:
        return "self-reported"
    if found.golden is None:
        return "not checked"
    return "passed" if found.golden.passed else f"differ: cosine {found.golden.cosine:.3f}"
