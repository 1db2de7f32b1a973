"""The table of a benchmark's result: columns of the report's, as many as a terminal has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.cli.output import print_table
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.benchmark.job import Cell
    from mobileclip_deploy.benchmark.result import CellResult, Result

LEFT_OUT = ("precision", "median of rounds, ms", "p99, ms", "again, ms", "first, ms", "last/first", "file, MB")
FIGURES = ("threads", "ms", "MB", "%")
"""Ends of the names of columns that are right-aligned."""


def print_result(*results: Result) -> None:
    """One row per cell, of several phones in one table; what a figure's reader should know stands under the table."""
    from mobileclip_deploy.benchmark.neural_engine import neural_engine_use, planned_placement
    from mobileclip_deploy.benchmark.report.points import device_name
    from mobileclip_deploy.benchmark.report.table import columns, rows

    names, job = columns(results[0]), results[0].job
    simulated = " SIMULATED" if any(result.device.simulated for result in results) else ""
    devices = [device_name(result).partition(": ")[2] for result in results]
    several = len(results) > 1
    shown = f"{len(results)} phones" if several else devices[0]
    title = f"{shown}:{simulated} protocol {job.protocol.name}, seed {', '.join(str(r.job.seed) for r in results)}"
    chosen = [index for index, name in enumerate(names) if name not in LEFT_OUT]
    heads = [f">{names[index]}" if names[index].endswith(FIGURES) else names[index] for index in chosen]
    cells = [
        [f"SIMULATED {device}" if result.device.simulated else device] * several + [row[index].text for index in chosen]
        for device, result in zip(devices, results, strict=True)
        for row in rows(result)
    ]
    print_table(title, ["phone"] * several + heads, cells)
    for result in results:
        for cell, outcome in result.pairs():
            if outcome.error:
                say(f"{cell.label}: {outcome.status}: {outcome.error}")
            if outcome.profile:
                _print_profile(cell, outcome)
        versions = ", ".join(f"{name} {version}" for name, version in result.runtimes.items())
        say(f"run {result.run_id}; {versions}")
        for label, text in (*planned_placement(result), *((one.label, one.text) for one in neural_engine_use(result))):
            say(f"{label}: {text}")
    say("for the meaning of warnings see `mobileclip-deploy report` or docs/measuring.md")


def _print_profile(asked: Cell, found: CellResult) -> None:
    """Prints the most expensive operators, and the others in one row."""
    from mobileclip_deploy.benchmark.report.operators import OPERATOR_COLUMNS, operator_rows

    columns = [name if name == "operator" else f">{name}" for name in OPERATOR_COLUMNS]
    title = f"{asked.label}, {asked.threads} thread(s): one inference by operator"
    print_table(title, columns, [list(row) for row in operator_rows(found.profile)])
