"""What every ONNX precision saves of S0's and S2's towers, in bytes and in time.

    python benchmarks/onnx_speed.py

Golden weights (tests/golden_checkpoints) in ONNX Runtime at one thread, all precisions of a tower in turn, round after
round, in CPU time; only ratios of one tower mean anything. Writes benchmarks/results/onnx_speed.json and the table in
docs/figures/onnx.md. nano's accuracy at each precision: benchmarks/precisions.py. About 4 minutes of one core.
"""

import platform
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Figures, golden_source, in_turns, markdown, processor, versions

from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.onnx.runner import open_session

KEPT = Figures("onnx_speed", "figures/onnx.md")
GOLDENS = {"mobileclip_s0": "mobileclip-s0.apple", "mobileclip_s2": "mobileclip-s2.apple"}
ROUNDS = 25


def main() -> None:
    """Measure, write the figures, and renew the tables."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "schema_version": 1,
        "versions": versions("mobileclip-deploy", "onnx", "onnxruntime", "torch", "numpy"),
        "machine": {"processor": processor(), "python": platform.python_version()},
        "speed": [row for variant in GOLDENS for tower in TOWERS for row in speed(variant, tower)],
    }
    KEPT.write(result)
    print(table(result["speed"]))
    KEPT.show(table(result["speed"]))


def speed(variant: str, tower: TowerName) -> list[dict[str, Any]]:
    """CPU time of one inference at one thread, all precisions in turn."""
    source, target = golden_source(GOLDENS[variant]), get_target("onnx")
    inputs = sample_inputs(source.model).of(tower)[:1]
    calls, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in target.capabilities.storing.precisions:
            print(f"{variant} {tower} {precision}", file=sys.stderr, flush=True)
            path = Path(folder) / f"{precision}.onnx"
            target.write(tower_job(source, tower, precision), path)
            session, sizes[precision] = open_session(path, threads=1), path.stat().st_size
            calls[precision] = partial(session.run, None, {session.get_inputs()[0].name: inputs})
    times = in_turns(calls, ROUNDS)
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
        for precision in target.capabilities.storing.precisions
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Bytes and ratios as Markdown."""
    told = []
    for row in rows:
        told.append([f"{row['variant']} {row['tower']}", row["precision"], f"{row['bytes'] / 1e6:.1f}"])
        told[-1] += [f"{row['share_of_fp32']:.3f}", f"{row['times_as_fast_as_fp32']:.2f}"]
    return "\n".join(markdown(("tower", "precision", "MB", "share of fp32", "times as fast as fp32"), told))


if __name__ == "__main__":
    main()
