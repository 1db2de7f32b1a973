"""What Apple's advice for the Neural Engine changes of nano's towers: 1 x 1 convolutions for linear layers, sequences
as maps of height 1, softmax over channels.

    python benchmarks/coreai_layout.py    # benchmarks/results/coreai_layout.json, and the table in docs/coreai.md

Each tower is converted to Core AI in float16 as it is and with `--as-maps`, and so to Core ML; operations, bytes,
findings of `lint`, and in float32 the deviation from the tower in Apple's runtime, and the CPU time of an inference.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generated import replace_block

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.inspect.linting import lint
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreai.maps import as_maps
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.towers.tower import make_tower

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "coreai_layout.json"
PAGE = ROOT / "docs" / "coreai.md"
DEVICE = "a14"
TARGETS = ("coreai", "coreml")


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    model = mcd.load_model(None, builtin_checkpoint())
    mcd.reparameterize(model)
    samples = sample_inputs(model)
    rows = [row for tower in TOWERS for row in measured(model, tower, samples.of(tower)[:4])]
    for row in rows:
        print(json.dumps(row))
    RESULTS.write_text(json.dumps({"schema_version": 1, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    replace_block(PAGE, "<!-- begin: benchmarks/coreai_layout.py -->", "<!-- end -->", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """One row per tower and form."""
    told = (("linear", "linear layers"), ("single-last-axis", "last axis 1"), ("softmax-axis", "softmax, last axis"))
    titles = ["tower", "form", "operations", "MB", *(title for _, title in told), "unaligned", "half head"]
    titles += ["Core ML: operations", "leave", "findings", "relative", "CPU ms"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        own, other = row["coreai"], row["coreml"]
        cells = [row["tower"], row["form"], str(own["operations"]), f"{own['bytes'] / 1e6:.2f}"]
        cells += [str(own["findings"].get(name, 0)) for name in (*(name for name, _ in told), "unaligned", "half-head")]
        found = sum(other["findings"].values())
        cells += [str(other["operations"]), str(other["status"].get("leaves", 0)), str(found)]
        cells += [f"{row['relative']:.1e}", f"{row['cpu_ms']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(model: mcd.MobileCLIP, tower: TowerName, inputs: Any) -> list[dict[str, Any]]:
    """Core AI's figures for a tower as it is and rewritten, and what both linters say."""
    own = make_tower(model, tower)
    with torch.no_grad():
        wanted = own(torch.from_numpy(np.asarray(inputs))).numpy()
    rows = []
    for name in ("as it is", "as maps"):
        module = own if name == "as it is" else as_maps(own)
        row: dict[str, Any] = {"tower": tower, "form": name}
        with tempfile.TemporaryDirectory() as folder:
            for target_name in TARGETS:
                target = get_target(target_name)
                job = tower_job(Source.of(model), tower, "fp16")
                job = type(job)(**{**vars(job), "module": module})
                path = Path(folder) / target.artifact_name(model.variant, tower, "fp16")
                target.write(job, path)
                (report,) = lint(path, DEVICE)
                findings = Counter(finding.rule for one in report.operations for finding in one.findings)
                status = Counter(one.status for one in report.operations)
                row[target_name] = {
                    "operations": len(report.operations),
                    "bytes": artifact_bytes(path),
                    "switches": report.switches,
                    "status": dict(status),
                    "findings": dict(findings),
                }
            target = get_target("coreai")
            path = Path(folder) / "fp32.aimodel"
            job = tower_job(Source.of(model), tower, "fp32")
            target.write(type(job)(**{**vars(job), "module": module}), path)
            runner = target.open(path).runner()
            runner(inputs[:1])
            start = time.process_time()
            answers = runner(inputs)
            row["cpu_ms"] = round(1000 * (time.process_time() - start) / len(inputs), 1)
            row["relative"] = float(compare(wanted, answers).relative)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
