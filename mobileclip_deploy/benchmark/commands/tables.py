"""The table of a benchmark's result: columns of the report's, as many as a terminal has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.cli.output import print_table
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.benchmark.job import Cell
    from mobileclip_deploy.benchmark.result import CellResult, Result

WHAT = ("model", "tower", "runtime", "place", "threads")
LEFT_OUT = ("precision", "p99, ms", "again, ms", "first, ms", "last/first", "file, MB")
FIGURES = ("threads", "ms", "MB", "%", "GOP/s")
"""Ends of the names of columns that are right-aligned."""


def print_result(result: Result) -> None:
    """One row per cell; what a figure's reader should know stands under the table."""
    from mobileclip_deploy.benchmark.limit import describe_peak
    from mobileclip_deploy.benchmark.neural_engine import neural_engine_use, planned_placement
    from mobileclip_deploy.benchmark.report.points import device_name
    from mobileclip_deploy.benchmark.report.table import LIMITS, columns, rows

    names, table = columns(result), rows(result)

    def print_columns(title: str, wanted: tuple[str, ...]) -> None:
        chosen = [number for number, name in enumerate(names) if name in wanted]
        heads = [f">{names[number]}" if names[number].endswith(FIGURES) else names[number] for number in chosen]
        print_table(title, heads, [[row[number].text for number in chosen] for row in table])

    simulated = " SIMULATED" if result.device.simulated else ""
    device = device_name(result).partition(": ")[2]
    title = f"{device}:{simulated} protocol {result.job.protocol.name}, seed {result.job.seed}"
    print_columns(title, tuple(name for name in names if name not in (*LEFT_OUT, *LIMITS)))
    for asked, found in result.pairs():
        if found.error:
            say(f"{asked.label}: {found.status}: {found.error}")
        if found.profile:
            _print_profile(asked, found, result)
    if any(row[names.index(LIMITS[0])].text for row in table if LIMITS[0] in names):
        print_columns("how near to the limit of these cores", (*WHAT, *LIMITS))
        for peak in result.peaks:
            say(f"limit at {describe_peak(peak)}")
    versions = ", ".join(f"{name} {version}" for name, version in result.runtimes.items())
    say(f"run {result.run_id}; {versions}")
    for label, text in (*planned_placement(result), *((one.label, one.text) for one in neural_engine_use(result))):
        say(f"{label}: {text}")
    say("what the warnings mean: `mobileclip-deploy report` says it in full, and so does docs/benchmark.md")


def _print_profile(asked: Cell, found: CellResult, result: Result) -> None:
    """The most expensive operators, and the others in one row; and how near they come to the limit."""
    from mobileclip_deploy.benchmark.limit import OPERATOR_COLUMNS, operator_rows, operator_shares, peak_of, roofline

    rows = [list(row) for row in operator_rows(operator_shares(found.profile, peak_of(asked, result.peaks)))]
    names = OPERATOR_COLUMNS[: len(rows[0])]
    columns = [name if name in ("operator", "arithmetic") else f">{name}" for name in names]
    print_table(f"{asked.label}, {asked.threads} thread(s): one inference by operator", columns, rows)
    drawn = roofline(asked, found, result.peaks)
    if drawn is not None:
        say(drawn.summary)
