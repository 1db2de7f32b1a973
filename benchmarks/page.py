"""docs/figures/benchmarks.md from the results of the suites.

python benchmarks/page.py
"""

import json
import sys
from pathlib import Path
from typing import Any

from clients_speed import section as clients
from devices import section as devices
from export_cost import section as export_costs
from measuring import ROOT, markdown
from pairs import tables as pair_tables
from quantizers import section as quantizers
from ratios import STEADY, Row, ratio_rows
from small_blocks import section as small_blocks
from suites import RESULTS, SUITES, Suite, by_processor, processor

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.result import Result

PAGE = ROOT / "docs" / "figures" / "benchmarks.md"
NOTES = ROOT / "benchmarks" / "notes"


def main() -> None:
    """Write the page."""
    parts = [(NOTES / "head.md").read_text(encoding="utf-8").strip()]
    for name, suite in SUITES.items():
        measured = runs_by_processor(name)
        parts.append(f"## {suite.title}\n\n{suite.claimed(measured[0][0] if measured else None)}")
        parts += [table(name, suite, runs) for runs in measured]
        if not measured:
            parts.append(f"Not measured yet: `python benchmarks/suites.py {name}`.")
    parts.append(litert(json.loads((RESULTS / "litert_goldens.json").read_text(encoding="utf-8"))))
    parts.append((NOTES / "int8_limits.md").read_text(encoding="utf-8").strip())
    parts += [part for part in (quantizers(), export_costs(), clients(), small_blocks(), devices()) if part]
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def runs_by_processor(name: str) -> list[tuple[Result, ...]]:
    """The runs of a suite, those of each processor together."""
    return [tuple(map(complete, runs.values())) for runs in by_processor(name).values()]


def litert(told: dict[str, Any]) -> str:
    """What `litert_goldens.py` measured: LiteRT's precisions beside ONNX Runtime's fp32."""
    lines = [
        "## LiteRT",
        "",
        "S0's towers with golden weights in LiteRT on one thread: CPU time as a share of ONNX Runtime's in float32, in "
        "turns; and how near: the worst golden input, which are noise, and the worst packaged photograph or prompt.",
        "",
    ]
    rows = []
    for row in told["rows"]:
        goal = "" if row["goal"] is None else f"{row['goal']:.2f}"
        near = [f"{row[inputs]['cosine']:.4f}" for inputs in ("golden", "samples")]
        cells = [row["tower"], row["precision"], f"{row['bytes'] / 1e6:.1f}", f"{row['ratio']:.2f}", goal, *near]
        rows.append([*cells, f"{row['samples']['snr_db']:.1f}"])
    machine = told["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    busy = machine["load"] > machine["cores"] / 2
    return "\n".join(
        [
            *lines,
            *markdown(("tower", "precision", "MB", "time", "goal", "cosine, golden", "cosine, packaged", "dB"), rows),
            "",
            f"`python benchmarks/litert_goldens.py`; {versions}; {machine['rounds']} rounds of 2 inferences. "
            + ("Busy" if busy else "Quiet")
            + f": load average {machine['load']} on {machine['cores']} cores before; compare ratios only.",
        ]
    )


def table(name: str, suite: Suite, runs: tuple[Result, ...]) -> str:
    """A suite on one kind of processor: its ratios, which of them are not steady, and what it was measured on."""
    if suite.pairs:
        return "\n\n".join([f"`python benchmarks/suites.py {name}`; {conditions(runs)}", *pair_tables(runs)])
    rows = list(ratio_rows(suite, runs))
    scored = any(row.cell.accuracy for row in rows)
    told = []
    for row in rows:
        cell, found = row.cell, row.found
        assert found.summary is not None
        assert found.summary.cpu_ns is not None
        times = [f"{found.summary.cpu_ns / 1e6:.2f}", f"{found.summary.median_ns / 1e6:.2f}"]
        accuracy = [f"{cell.accuracy.percent:.1f}" if cell.accuracy else ""] if scored else []
        cosine = f"{found.golden.cosine:.6f}" if found.golden else "not checked"
        interval = "" if row.is_base else f"{row.ratio.low:.2f} to {row.ratio.high:.2f}"
        told.append([cell.label, _where(row), *times, f"{row.ratio.value:.2f}", interval, *accuracy, cosine])
    heads = ("what", "runtime", "CPU ms", "wall ms", "faster", "95%", *(["top-1 %"] if scored else []), "cosine")
    lines = [f"`python benchmarks/suites.py {name}`; {conditions(runs)}", "", *markdown(heads, told)]
    lines += ["", f"{len(runs)} runs, {rows[0].ratio.rounds} rounds. {_verdict(rows)}"]
    return "\n".join(lines)


def _verdict(rows: list[Row]) -> str:
    wide = [f"{row.cell.label} ({_where(row)}, {row.ratio.width:.0%})" for row in rows if row.ratio.width >= STEADY]
    if not wide:
        return f"Every ratio's interval is narrower than {STEADY:.0%}."
    return f"**Not known within {STEADY:.0%}**: {'; '.join(wide)}."


def _where(row: Row) -> str:
    return f"{row.cell.runtime} {row.cell.backend or row.cell.compute_units or ''}".strip()


def conditions(runs: tuple[Result, ...]) -> str:
    """Machine, versions, protocol, load and warnings in a line."""
    device, protocol = runs[0].device, runs[0].job.protocol
    versions = ", ".join(f"{name} {version}" for name, version in runs[0].runtimes.items())
    warnings = [text for text in run_warnings(runs[0]) if not text.startswith("busy")]
    told = [
        state.load_average_1min for run in runs for state in (run.environment.before, run.environment.after) if state
    ]
    loads = [load for load in told if load is not None]
    load = f"; load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    text = (
        f"{processor(device)}, {device.cores} cores, {device.os} {device.architecture}; {versions}; "
        f"protocol {protocol.name} ({protocol.rounds} rounds of {protocol.iterations_per_round} inferences){load}"
    )
    return f"{text}. {'; '.join(warnings).capitalize()}." if warnings else f"{text}."


if __name__ == "__main__":
    main()
