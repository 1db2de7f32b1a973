"""What every ONNX precision saves of S0's and S2's towers, in bytes and in time.

    python benchmarks/onnx_speed.py

Golden weights (tests/golden_checkpoints) in ONNX Runtime at one thread, all precisions of a tower in turn, round after
round, in CPU time; only ratios of one tower mean anything. Writes benchmarks/results/onnx_speed.json and the table in
docs/onnx.md. nano's accuracy at each precision: benchmarks/precisions.py. About 4 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generated import replace_block

from mobileclip_deploy.checkpoints.identity import identify
from mobileclip_deploy.checkpoints.loading import assemble
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.provenance import Provenance
from mobileclip_deploy.model.variants import TOWERS, TowerName, load_variant
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.onnx.runner import open_session
from mobileclip_deploy.towers.inputs import sample_inputs

ROOT = Path(__file__).resolve().parent
sys.path.append(str(ROOT.parent / "tests"))  # golden_checkpoints
RESULTS = ROOT / "results" / "onnx_speed.json"
PAGE = ROOT.parent / "docs" / "onnx.md"
GOLDENS = {"mobileclip_s0": "mobileclip-s0.apple", "mobileclip_s2": "mobileclip-s2.apple"}
ROUNDS, WARM_UP = 25, 3


def main() -> None:
    """Measure, write the figures, and renew the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "schema_version": 1,
        "versions": {name: version(name) for name in ("mobileclip-deploy", "onnx", "onnxruntime", "torch", "numpy")},
        "machine": {"processor": processor(), "python": platform.python_version()},
        "speed": [row for variant in GOLDENS for tower in TOWERS for row in speed(variant, tower)],
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(speed_table(result["speed"]))
    renew(speed_table(result["speed"]))


def golden(name: str) -> MobileCLIP:
    """A golden checkpoint, folded."""
    from golden_checkpoints import GoldenCheckpoint

    source = GoldenCheckpoint(name)
    model = assemble(identify(source.file(), load_variant(source.variant)))
    fold(model)
    model.provenance = Provenance(
        variant=source.variant, layout="apple", sha256="0" * 64, file="golden", licence="none", research_only=False
    )
    return model


def speed(variant: str, tower: TowerName) -> list[dict[str, Any]]:
    """CPU time of one inference at one thread, all precisions in turn."""
    model, target = golden(GOLDENS[variant]), get_target("onnx")
    inputs = sample_inputs(model).of(tower)[:1]
    sessions, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in target.abilities.precisions:
            print(f"{variant} {tower} {precision}", file=sys.stderr, flush=True)
            path = Path(folder) / f"{precision}.onnx"
            target.write(tower_job(Source.of(model), tower, precision), path)
            sessions[precision], sizes[precision] = open_session(path, threads=1), path.stat().st_size
    times: dict[str, list[float]] = {precision: [] for precision in target.abilities.precisions}
    order = list(target.abilities.precisions)
    for turn in range(WARM_UP + ROUNDS):
        for precision in order[turn % len(order) :] + order[: turn % len(order)]:
            session = sessions[precision]
            name = session.get_inputs()[0].name
            start = time.process_time()
            session.run(None, {name: inputs})
            if turn >= WARM_UP:
                times[precision].append(1000 * (time.process_time() - start))
    # Ratios are taken round by round: what disturbs the machine disturbs a round's precisions alike.
    return [
        {
            "variant": variant,
            "tower": tower,
            "precision": precision,
            "bytes": sizes[precision],
            "share_of_fp32": sizes[precision] / sizes["fp32"],
            "cpu_ms": statistics.median(times[precision]),
            "times_as_fast_as_fp32": statistics.median(np.array(times["fp32"]) / np.array(times[precision])),
        }
        for precision in target.abilities.precisions
    ]


def speed_table(rows: list[dict[str, Any]]) -> str:
    """Bytes and ratios as Markdown."""
    lines = ["| tower | precision | MB | share of fp32 | times as fast as fp32 |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{row['variant']} {row['tower']}", row["precision"], f"{row['bytes'] / 1e6:.1f}"]
        cells += [f"{row['share_of_fp32']:.3f}", f"{row['times_as_fast_as_fp32']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor() -> str:
    """The CPU's name and what of its instructions int8 uses."""
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists():
        return platform.processor()
    text = cpu.read_text(encoding="utf-8")
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")
    return " ".join([name, *(flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if flag in text)])


def renew(text: str) -> None:
    """Replace what stands between the page's markers."""
    replace_block(PAGE, "<!-- begin: benchmarks/onnx_speed.py -->", "<!-- end -->", text)


if __name__ == "__main__":
    main()
