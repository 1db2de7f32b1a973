"""S0's towers through LiteRT on golden weights: how near, how large, and what an inference takes beside ONNX Runtime.

    python benchmarks/litert_goldens.py --json benchmarks/results/litert_goldens.json

Deviations are from the reference implementation's embeddings on the golden inputs (fp32), and from the tower in torch
on the packaged samples, which w8a8 is calibrated on. Times are CPU time of one thread, ONNX Runtime's fp32 and every
precision in turn, the median of the rounds; only their ratios mean anything. Exit code 1 when a ratio is above its
goal.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Scripts here are called what packages are called; their folder must not be searched first.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks"]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"
GOLDEN = "mobileclip-s0.apple"
PRECISIONS = {"image": ("fp32", "fp16", "w8", "w8a8", "w4"), "text": ("fp32", "w8", "w4")}
GOALS = {("image", "fp32"): 1.10, ("image", "w8"): 0.75, ("image", "w8a8"): 0.60, ("text", "w8"): 0.35}


def main() -> int:
    """Write every file, measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of two inferences each, by default %(default)s")
    parser.add_argument("--json", help="write the table to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="litert-goldens-") as folder:
        rows = [row for tower in PRECISIONS for row in measured(tower, Path(folder), arguments.rounds)]
    told = {"schema_version": 1, "golden": GOLDEN, "versions": versions(), "rows": rows}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["ratio"] <= row["goal"] for row in rows if row["goal"]) else 1


def measured(tower: Any, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each precision of one tower."""
    import torch

    from mobileclip_deploy.checkpoints.golden import Golden, folded_golden
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import TowerJob, get_target
    from mobileclip_deploy.towers import example_input, make_tower
    from mobileclip_deploy.towers.calibration import calibration_inputs

    torch.set_num_threads(1)
    model, golden = folded_golden(GOLDEN), Golden(GOLDEN)
    module, example = make_tower(model, tower), example_input(model, tower)
    samples = calibration_inputs(model.variant, tower, None)

    def written(name: str, precision: str) -> tuple[Path, float]:
        job = TowerJob(
            variant=model.variant,
            tower=tower,
            module=module,
            example=example,
            precision=precision,
            licence="",
            calibration=samples if precision == "w8a8" else None,
        )
        path, started = folder / f"{tower}_{precision}.{name}", time.process_time()
        get_target(name).write(job, path)
        return path, time.process_time() - started

    import litert_torch  # noqa: F401 (what is imported once does not count)

    with torch.no_grad():
        wanted = module(torch.from_numpy(samples)).numpy()
    files = {precision: written("litert", precision) for precision in PRECISIONS[tower]}
    plain, _ = written("onnx", "fp32")
    calls = {"onnx": onnx_call(plain)} | {name: litert_call(path) for name, (path, _) in files.items()}
    times = interleaved(calls, rounds)
    rows = []
    for name, (path, seconds) in files.items():
        runner = get_target("litert").runner(path)
        answers = runner(golden.inputs(tower).numpy())
        row = {
            "tower": tower,
            "precision": name,
            "bytes": path.stat().st_size,
            "ratio": round(times[name] / times["onnx"], 3),
            "goal": GOALS.get((tower, name)),
            "cpu_ms": round(times[name], 2),
            "onnx_cpu_ms": round(times["onnx"], 2),
            "export_cpu_s": round(seconds, 1),
            "golden": compare(golden.arrays[f"{tower}_embeddings"].numpy(), answers).model_dump(),
            "samples": compare(wanted, runner(samples)).model_dump(),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def onnx_call(path: Path) -> Callable[[], Any]:
    """One inference of ONNX Runtime on one thread."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    (source,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in source.shape]
    values = np.full(shape, 0.5, np.float32) if "float" in source.type else np.full(shape, 49407, np.int64)
    return lambda: session.run(None, {source.name: values})


def litert_call(path: Path) -> Callable[[], Any]:
    """One inference of LiteRT on one thread."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    fill = 0.5 if source["dtype"] is np.float32 else 49407
    interpreter.set_tensor(source["index"], np.full(source["shape"], fill, source["dtype"]))
    return interpreter.invoke


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """CPU milliseconds an inference, the median of rounds in which each is called twice, one after the other."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call()
            call()
            found[name].append((time.process_time() - started) * 500)
    return {name: statistics.median(values) for name, values in found.items()}


def versions() -> dict[str, str]:
    """Of what decides the figures."""
    names = ("torch", "onnxruntime", "ai-edge-litert", "litert-torch", "litert-converter", "ai-edge-quantizer")
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
