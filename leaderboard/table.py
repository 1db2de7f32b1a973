"""Writes docs/leaderboard.md: a row for each cell of the results that people sent to leaderboard/results/.

python leaderboard/table.py            # ends with 1, and writes nothing, where a result cannot be taken
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.escaping import markdown_row
from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import CellResult, Result
from mobileclip_deploy.errors import MobileClipDeployError

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, HEAD = ROOT / "leaderboard/results", ROOT / "docs/leaderboard.md", ROOT / "leaderboard/head.md"
FILE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.json")
KINDS = {"ios": "iPhone and iPad", "android": "Android", "mac": "Mac", "host": "Computers", "browser": "Browsers"}
COLUMNS = ("device", "model", "tower", "runs in", "ms", "95% of median", "MB", "answers", "remarks", "file")
PLAIN = ("standard", "paper", "mlperf")
LONGEST = 80
"""Characters of a stranger's name that are shown."""


class Refused(Exception):
    """A file that is not taken, and why."""


@dataclass(frozen=True)
class Entry:
    """One file that was sent."""

    file: str
    result: Result


def entries(folder: Path) -> list[Entry]:
    """What was sent, in the order of its names.

    Raises:
        Refused: a file is none that can be taken; the text says which, and why.
    """
    return [Entry(path.name, _taken(path)) for path in sorted(folder.iterdir()) if path.name != ".gitkeep"]


def _taken(path: Path) -> Result:
    if FILE.fullmatch(path.name) is None:
        raise Refused(f"{path.name!r}: a name has small letters, digits and hyphens, and ends in .json")
    try:
        result = read_result(path)
    except MobileClipDeployError as error:
        raise Refused(f"{path.name}: {error.line}") from error
    why = refusal(result)
    if why is not None:
        raise Refused(f"{path.name}: {why}")
    return result


def refusal(result: Result) -> str | None:
    """Why a result is not taken; None where it is."""
    if result.device.simulated:
        return "it is simulated: a stand-in answered in the device's place"
    if result.job.protocol.name not in PLAIN:
        return f"it was measured by {result.job.protocol.name}; take one of {', '.join(PLAIN)}, not the quick look"
    if not any(_measured(cell, found) for cell, found in result.pairs()):
        return "no model of this toolkit was measured to its end in it"
    if _figures(complete(result)) != _figures(result):
        return "its figures are not those of its own rounds"
    wrong = [cell.label for cell, found in result.pairs() if found.summary and not _right(found)]
    return f"{wrong[0]} answered wrongly, or was not asked" if wrong else None


def _measured(cell: Cell, found: CellResult) -> bool:
    return found.status == "done" and found.summary is not None and not cell.competitor


def _right(found: CellResult) -> bool:
    return found.golden is not None and found.golden.passed


def _figures(result: Result) -> list[tuple[object, ...]]:
    return [(one.id, one.status, one.summary, one.golden and one.golden.passed) for one in result.cells]


def tables(found: Sequence[Entry]) -> str:
    """A table for each kind of device that somebody measured."""
    parts = []
    for kind, title in KINDS.items():
        rows = [row for entry in found if entry.result.device.kind == kind for row in _rows(entry)]
        if rows:
            ruler = "|" + "|".join("---:" if name in ("ms", "MB") else "---" for name in COLUMNS) + "|"
            parts.append("\n".join([f"## {title}", "", markdown_row(COLUMNS), ruler, *sorted(rows)]))
    return "\n\n".join(parts) or "Nobody has sent one yet."


def _rows(entry: Entry) -> Iterator[str]:
    result = entry.result
    statistic = result.job.protocol.statistic
    for cell, found in result.pairs():
        if _measured(cell, found) and found.summary is not None:
            interval = found.summary.median_interval_ns
            yield markdown_row(
                (
                    _device(result),
                    _short(cell.bundle or cell.label),
                    cell.tower,
                    _place(cell),
                    f"{getattr(found.summary, f'{statistic}_ns') / 1e6:.2f} ({statistic.replace('_', ' ')})",
                    f"{interval.low / 1e6:.2f} to {interval.high / 1e6:.2f}",
                    f"{cell.bytes / 1e6:.1f}",
                    "self-reported" if result.self_reported else "compared",
                    _short(", ".join(dict.fromkeys(text.partition(":")[0] for text in found.warnings))),
                    entry.file.removesuffix(".json"),
                )
            )


def _device(result: Result) -> str:
    own = result.device
    chip = f", {own.soc}" if own.soc else ""
    browser = f", {own.browser.name} {own.browser.version}" if own.browser else ""
    return _short(f"{own.model}{chip}, {own.os} {own.os_version}{browser}")


def _place(cell: Cell) -> str:
    place = " ".join(part for part in (cell.runtime, cell.backend, cell.compute_units) if part)
    return _short(f"{place}, {cell.threads} thread{'s' if cell.threads > 1 else ''}")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def page(folder: Path) -> str:
    """The page's text."""
    return f"{HEAD.read_text(encoding='utf-8').rstrip()}\n\n{tables(entries(folder))}\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    try:
        text = page(given.results)
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    given.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
