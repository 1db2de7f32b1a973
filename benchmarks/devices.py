"""The table of results that people sent to benchmarks/devices/, as a part of docs/figures/benchmarks.md.

A file is taken when its figures are those of its own rounds, when every model gave right answers, and when it was
measured by a whole protocol. A simulated result is refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from measuring import ROOT

from mobileclip_deploy.base.escaping import markdown_row
from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.job import PROTOCOLS
from mobileclip_deploy.benchmark.result import CellResult, Result

FOLDER = ROOT / "benchmarks" / "devices"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.json")
COLUMNS = ("device", "model", "tower", "runs in", "ms", "95% of median", "answers", "file")
HEAD = """## Devices

What people measured on devices that they have, or [rented](../farms.md#phones-by-the-minute): `mobileclip-deploy
benchmark BUNDLE --device ios --json benchmarks/devices/iphone15pro-s0.json`, and a pull request with that file. Nobody
repeated these measurements here. A file is taken when its figures are those of its own rounds, when every answer is
right, and when it was measured by a whole protocol on a real device. `self-reported`: the device alone compared its
answers."""


def refusal(path: Path, result: Result) -> str | None:
    """Returns why a result is not taken; None where it is."""
    if NAME.fullmatch(path.name) is None:
        return "a name has small letters, digits and hyphens, and ends in .json"
    if result.device.simulated:
        return "it is simulated: a stand-in answered in the device's place"
    if result.job.protocol.name not in PROTOCOLS:
        return f"it was measured by {result.job.protocol.name}; take one of {', '.join(PROTOCOLS)}"
    if [_figures(cell) for cell in complete(result).cells] != [_figures(cell) for cell in result.cells]:
        return "its figures are not those of its own rounds"
    if not any(cell.summary for cell in result.cells):
        return "no model was measured to its end in it"
    wrong = [cell.id for cell in result.cells if cell.summary and not (cell.golden and cell.golden.passed)]
    return f"{wrong[0]} answered wrongly, or was not asked" if wrong else None


def _figures(cell: CellResult) -> tuple[object, ...]:
    return cell.id, cell.status, cell.summary, cell.golden and cell.golden.passed


def section(folder: Path = FOLDER) -> str:
    """Returns the part of the page.

    Raises:
        ValueError: a file is not taken; the text says which, and why.
        InvalidInput: a file is not a result.
    """
    rows: list[str] = []
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        if why := refusal(path, result):
            raise ValueError(f"{path.name}: {why}")
        rows += _rows(path.stem, result)
    ruler = "|" + "|".join("---:" if name == "ms" else "---" for name in COLUMNS) + "|"
    return "\n".join([HEAD, "", *([markdown_row(COLUMNS), ruler, *sorted(rows)] if rows else ["Nobody sent one yet."])])


def _rows(file: str, result: Result) -> Iterator[str]:
    device, statistic = result.device, result.job.protocol.statistic
    for cell, found in result.pairs():
        if found.summary and not cell.competitor:
            place = " ".join(part for part in (cell.runtime, cell.backend, cell.compute_units) if part)
            interval = found.summary.median_interval_ns
            rented = f", rented: {device.rental.model}, {device.rental.date}" if device.rental else ""
            chip = (device.soc or "chip unknown")[:80]
            yield markdown_row(
                (
                    f"{device.model[:80]}, {chip}, {device.os[:80]} {device.os_version[:80]}{rented}",
                    (cell.bundle or cell.label)[:80],
                    cell.tower,
                    f"{place[:80]}, threads: {cell.threads}",
                    f"{getattr(found.summary, f'{statistic}_ns') / 1e6:.2f} ({statistic.replace('_', ' ')})",
                    f"{interval.low / 1e6:.2f} to {interval.high / 1e6:.2f}",
                    "self-reported" if result.self_reported else "compared",
                    file,
                )
            )
