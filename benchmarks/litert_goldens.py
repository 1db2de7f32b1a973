"""S0's towers through LiteRT on golden weights: how near, how large, and what an inference takes beside ONNX Runtime.

    python benchmarks/litert_goldens.py --json benchmarks/results/litert_goldens.json

Deviations are from the reference implementation's embeddings on the golden inputs (fp32), and from the tower in torch
on the packaged samples, which w8a8 is calibrated on. Times are CPU time of one thread, ONNX Runtime's fp32 and every
precision in turn, the median of the rounds; only their ratios mean anything. Exit code 1 when a goal is missed.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import golden_source, in_turns, medians, versions

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"
GOLDEN = "mobileclip-s0.apple"
PRECISIONS = {"image": ("fp32", "fp16", "w8", "w8a8", "w4"), "text": ("fp32", "w8", "w4")}
GOALS = {("image", "fp32"): 1.10, ("image", "w8"): 0.75, ("image", "w8a8"): 0.60, ("text", "w8"): 0.35}
COSINE = {("image", "w8a8"): 0.995}
"""The worst on the golden inputs."""
PACKAGES = ("torch", "onnxruntime", "ai-edge-litert", "litert-torch", "litert-converter", "ai-edge-quantizer")


def main() -> int:
    """Write every file, measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of two inferences each, by default %(default)s")
    parser.add_argument("--json", help="write the table to this file")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="litert-goldens-") as folder:
        rows = [row for tower in PRECISIONS for row in measured(tower, Path(folder), arguments.rounds)]
    machine = {"load": round(load, 1), "cores": os.cpu_count(), "rounds": arguments.rounds}
    told = {"schema_version": 2, "golden": GOLDEN, "versions": versions(*PACKAGES), "machine": machine}
    told |= {"rows": rows}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    fast = all(row["ratio"] <= row["goal"] for row in rows if row["goal"])
    near = all(row["golden"]["cosine"] >= row["cosine_goal"] for row in rows if row["cosine_goal"])
    return 0 if fast and near else 1


def measured(tower: Any, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each precision of one tower."""
    import torch
    from golden_checkpoints import GoldenCheckpoint

    from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
    from mobileclip_deploy.artifacts.towers.tower import make_tower
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.jobs import tower_job
    from mobileclip_deploy.targets.values import Shared

    torch.set_num_threads(1)
    source, golden = golden_source(GOLDEN), GoldenCheckpoint(GOLDEN)
    samples = calibration_inputs(source.model.variant, tower, None)

    converted = Shared()

    def written(name: str, precision: str) -> Path:
        job = tower_job(source, tower, precision)
        path = folder / f"{tower}_{precision}.{name}"
        get_target(name).write(replace(job, shared=converted if name == "litert" else None), path)
        return path

    with torch.no_grad():
        wanted = make_tower(source.model, tower)(torch.from_numpy(samples)).numpy()
    files = {precision: written("litert", precision) for precision in PRECISIONS[tower]}
    converted.clear()
    calls = {"onnx": twice(onnx_call(written("onnx", "fp32")))}
    calls |= {name: twice(litert_call(path)) for name, path in files.items()}
    times = {name: took / 2 for name, took in medians(in_turns(calls, rounds, 1)).items()}
    rows = []
    for name, path in files.items():
        runner = get_target("litert").open(path).runner()
        answers = runner(golden.inputs(tower).numpy())
        row = {
            "tower": tower,
            "precision": name,
            "bytes": path.stat().st_size,
            "ratio": round(times[name] / times["onnx"], 3),
            "goal": GOALS.get((tower, name)),
            "cosine_goal": COSINE.get((tower, name)),
            "cpu_ms": round(times[name], 2),
            "onnx_cpu_ms": round(times["onnx"], 2),
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


def twice(call: Callable[[], Any]) -> Callable[[], Any]:
    """Two inferences, one after the other."""
    return lambda: (call(), call())


if __name__ == "__main__":
    sys.exit(main())
