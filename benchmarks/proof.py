"""Noise floors, and how far folding and every runtime land from exact answers, on networks of every architecture.

    python benchmarks/proof.py                       # writes benchmarks/results/proof.json and docs/figures's table
    python benchmarks/proof.py --goldens nano --targets onnx
    python benchmarks/proof.py --page-only           # the table alone, from what was measured before

Each network is exported in float32 without any `--gate`, as a user would, in a process of its own; a row keeps the
checks' relative deviations, the CPU time of the float64 answers and the largest memory. Weights of the golden networks
are random (tests/golden). About half an hour of two cores.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Figures, alone, markdown

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
KEPT = Figures("proof", "figures/proof.md")
EVERY_TARGET = ("nano", "mobileclip-s0.apple", "mobileclip-s2.apple", "mobileclip2-s2.openclip")
TITLES = {
    "onnx": "ONNX Runtime",
    "coreml": "Core ML, evaluated",
    "executorch": "ExecuTorch",
    "litert": "LiteRT",
    "coreai": "Core AI",
}


def main() -> int:
    """Measure every row in turn, write the results and the table; 1 where an export failed its gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", help="nano, or names of tests/golden; by default all")
    parser.add_argument("--targets", help="by default every target for four networks, ONNX for the others")
    parser.add_argument("--page-only", action="store_true", help="write the table from what was measured before")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(*arguments.row.split(":"))))
        return 0
    rows = KEPT.rows()
    if not arguments.page_only:
        for golden, target in _wanted(arguments.goldens, arguments.targets):
            found = alone(__file__, "--row", f"{golden}:{target}")
            print(json.dumps(found), flush=True)
            rows = [row for row in rows if (row["network"], row["target"]) != (golden, target)] + [found]
            KEPT.write_rows(rows)
    KEPT.show(table(rows))
    return 0 if all(row["passed"] for row in rows) else 1


def _wanted(goldens: str | None, targets: str | None) -> list[tuple[str, str]]:
    from golden_checkpoints import GOLDEN_NAMES

    names = goldens.split(",") if goldens else ["nano", *GOLDEN_NAMES]
    return [
        (name, target)
        for name in names
        for target in (targets.split(",") if targets else TITLES if name in EVERY_TARGET else ["onnx"])
    ]


def measure(golden: str, target: str) -> dict[str, Any]:
    """Export one network at float32, verified."""
    from mobileclip_deploy.export.door import export_plan
    from mobileclip_deploy.export.plan import plan_export
    from mobileclip_deploy.export.request import ExportRequest, Writing, choose
    from mobileclip_deploy.network import embedding
    from mobileclip_deploy.network.checkpoints.source import Source

    source = Source.of(_model(golden))
    exact, seconds = embedding.embed_exactly, {}

    def timed(model: Any, tower: Any, given: Any) -> Any:
        start = time.process_time()
        found = exact(model, tower, given)
        seconds[tower] = round(time.process_time() - start, 1)
        return found

    from mobileclip_deploy.parity import computing

    computing.embed_exactly = timed  # type: ignore[assignment, attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        request = ExportRequest((target,), ("fp32",), Path(folder), writing=Writing(allow_failing=True))
        (written,) = export_plan(plan_export(choose(request), source))
    assert written.report is not None
    deviations = {
        f"{check.tower} {check.step}": check.deviation.relative for check in written.report.checks if check.deviation
    }
    return {
        "network": golden,
        "target": target,
        "passed": written.report.passed,
        "failed": [f"{check.tower} {check.step}: {check.describe()}" for check in written.report.failed],
        "floor": written.report.floor,
        "deviations": deviations,
        "float64_cpu_s": seconds,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1),
    }


def _model(golden: str) -> Any:
    from golden_checkpoints import GoldenCheckpoint

    import mobileclip_deploy as mcd
    from mobileclip_deploy.network.checkpoints.identity import identify
    from mobileclip_deploy.network.checkpoints.loading import assemble
    from mobileclip_deploy.network.model.provenance import Provenance
    from mobileclip_deploy.network.model.variants import load_variant

    if golden == "nano":
        return mcd.load_model()
    file = GoldenCheckpoint(golden)
    model = assemble(identify(file.file(), load_variant(file.variant)))
    model.provenance = Provenance(
        variant=file.variant,
        layout=file.layout,
        sha256="0" * 64,
        file=f"{golden}.pt",
        licence="random weights",
        research_only=False,
    )
    return model


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a network and tower."""
    networks = dict.fromkeys(row["network"] for row in rows)
    told = []
    for network in networks:
        own = {row["target"]: row for row in rows if row["network"] == network}
        first = next(iter(own.values()))
        for tower, floor in first["floor"].items():
            twins = {target: row["deviations"][f"{tower} twin"] for target, row in own.items()}
            seen = [row["deviations"][f"{tower} {step}"] for row in own.values() for step in ("tower", "twin")]
            cells = [f"{floor:.1e}", f"{first['deviations'][f'{tower} tower']:.1e}"]
            cells += [f"{twins[target]:.1e}" if target in twins else "" for target in TITLES]
            told.append([network, tower, *cells, f"{max(seen) / floor:.1f}"])
    runtimes = (f">{title}" for title in TITLES.values())
    lines = markdown(("network", "tower", ">noise floor", ">folded tower", *runtimes, ">worst, in floors"), told)
    largest = max(rows, key=lambda row: row["peak_gb"])
    slowest = max(rows, key=lambda row: sum(row["float64_cpu_s"].values()))
    seconds = sum(slowest["float64_cpu_s"].values())
    lines += [
        "",
        f"Float64 answers to 16 photographs and 24 prompts cost most on {slowest['network']}: {seconds:.0f} s of CPU",
        f"time. An export took most memory on {largest['network']}: {largest['peak_gb']} GB.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
