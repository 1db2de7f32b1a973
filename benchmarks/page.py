"""docs/benchmarks.md from the results of the suites.

python benchmarks/page.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from suites import RESULTS, ROOT, SUITES, Suite

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.result import CellResult, Result

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = ROOT / "benchmarks" / "notes"
AGREEMENT = 0.10


def main() -> None:
    """Write the page."""
    parts = [(NOTES / "head.md").read_text(encoding="utf-8").strip()]
    for name, suite in SUITES.items():
        paths = [RESULTS / f"{name}-{number}.json" for number in (1, 2)]
        if not all(path.exists() for path in paths):
            parts.append(
                f"## {suite.title}\n\n{suite.claim}\n\nNot measured yet: `python benchmarks/suites.py {name}`."
            )
            continue
        parts.append(section(name, suite, tuple(complete(read_result(path)) for path in paths)))
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def section(name: str, suite: Suite, runs: tuple[Result, ...]) -> str:
    """A suite's table, whether its ratios came out the same twice, and what it was measured on."""
    lines = [f"## {suite.title}", "", suite.claim, ""]
    scored = any(cell.accuracy for cell in runs[0].job.cells)
    lines.append(
        f"| what | runtime | CPU ms | wall ms | faster, run 1 | run 2 |{' top-1 % |' if scored else ''} cosine |"
    )
    lines.append(f"|---|---|---|---|---|---|{'---|' if scored else ''}---|")
    apart = []
    for cell, found, ratios in ratio_rows(suite, runs):
        assert found.summary is not None
        assert found.summary.cpu_ns is not None
        where = f"{cell.runtime} {cell.backend or cell.compute_units or ''}".strip()
        times = f"{found.summary.cpu_ns / 1e6:.2f} | {found.summary.median_ns / 1e6:.2f}"
        accuracy = f" {cell.accuracy.percent:.1f} |" if cell.accuracy else " |" if scored else ""
        cosine = f"{found.golden.cosine:.6f}" if found.golden else "not checked"
        spread = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"| {cell.label} | {where} | {times} | {spread} |{accuracy} {cosine} |")
        if abs(ratios[1] / ratios[0] - 1) > AGREEMENT:
            apart.append(f"{cell.label} ({where}): {ratios[0]:.2f} and {ratios[1]:.2f}")
    verdict = (
        f"**did not come out the same within {AGREEMENT:.0%}**: {'; '.join(apart)}" if apart else "agree within 10%"
    )
    lines += ["", f"The two runs' ratios {verdict}."]
    note = NOTES / f"{name}.md"
    if note.exists():
        lines += ["", note.read_text(encoding="utf-8").strip()]
    lines += ["", f"`python benchmarks/suites.py {name}`; {conditions(runs[0])}"]
    return "\n".join(lines)


def ratio_rows(suite: Suite, runs: tuple[Result, ...]) -> Iterator[tuple[Cell, CellResult, list[float]]]:
    """Every cell of the first run, with its base's CPU time over its own, in every run."""
    for index, (cell, found) in enumerate(runs[0].pairs()):
        base = next(
            number
            for number, other in enumerate(runs[0].job.cells)
            if suite.base in f"{other.label} {other.runtime} {other.backend}"
            and other.tower == cell.tower
            and all(getattr(other, field) == getattr(cell, field) for field in suite.within)
        )
        yield cell, found, [_cpu(run.cells[base]) / _cpu(run.cells[index]) for run in runs]


def _cpu(found: CellResult) -> float:
    assert found.summary is not None
    assert found.summary.cpu_ns is not None
    return found.summary.cpu_ns


def conditions(result: Result) -> str:
    """Machine, versions, protocol, seed and warnings in a line."""
    device, protocol = result.device, result.job.protocol
    versions = ", ".join(f"{name} {version}" for name, version in result.runtimes.items())
    warnings = "; ".join(run_warnings(result))
    text = (
        f"{device.model}, {device.cores} cores, {device.os} {device.architecture}; {versions}; "
        f"protocol {protocol.name} ({protocol.rounds} rounds of {protocol.iterations_per_round} inferences)"
    )
    return f"{text}. {warnings.capitalize()}." if warnings else f"{text}."


if __name__ == "__main__":
    main()
