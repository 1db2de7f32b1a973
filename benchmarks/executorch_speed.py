"""ExecuTorch's fast path against its stock XNNPACK recipe, torch and ONNX Runtime, on golden weights.

    python benchmarks/executorch_speed.py --json benchmarks/results/executorch.json

Every cell (variant, tower, threads) is a process of its own, in which the candidates take turns: each round times each
of them a few times, in an order that rotates, so that what disturbs the machine disturbs all alike. Ratios between
candidates of one cell mean something; milliseconds of a shared machine do not. A candidate whose output is further than
1e-3 (relative) from torch's is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import golden_source, processor, versions

GOLDENS = {
    "mobileclip_s0": "mobileclip-s0.apple",
    "mobileclip_s1": "mobileclip-s1.apple",
    "mobileclip_s2": "mobileclip-s2.apple",
    "mobileclip_b": "mobileclip-b.apple",
    "mobileclip2_s0": "mobileclip2-s0.openclip",
}
ROUNDS, REPEATS, WARM_UP = 25, 2, 3
BASE = "executorch_stock"
# Torch's threads spin while they wait for each other: at two threads on a machine with other work that, not the model,
# was what was measured. Read when torch is imported, which only the processes of the cells do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Build what is missing, measure every cell, write the results."""
    arguments = parse()
    if arguments.cell:
        print(json.dumps(measure(Path(arguments.folder), arguments.cell, arguments.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="executorch-benchmark-") as temporary:
        folder = Path(arguments.folder or temporary)
        cells = []
        for variant in arguments.variants.split(","):
            for tower in arguments.towers.split(","):
                built = folder / f"{variant}_{tower}"
                if not (built / "done").exists():
                    run("--build", f"{variant}:{tower}", "--folder", str(folder))
                for threads in (1, 2):
                    cell = json.loads(
                        run("--cell", f"{variant}:{tower}", "--threads", str(threads), "--folder", str(folder))
                    )
                    cells.append(cell)
                    print(summary(cell), flush=True)
        if arguments.json:
            text = json.dumps({"schema_version": 1, "machine": machine(), "cells": cells}, indent=1)
            Path(arguments.json).write_text(text + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="mobileclip_s0,mobileclip_s2", help=f"of {', '.join(GOLDENS)}")
    parser.add_argument("--towers", default="image", help="image, text or image,text")
    parser.add_argument("--folder", help="keep the built files here and use those that are there")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        build(Path(arguments.folder), arguments.build)
        sys.exit()
    return arguments


def run(*arguments: str) -> str:
    """This script in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def cell_of(text: str) -> tuple[str, Any]:
    """Variant and tower of `variant:tower`."""
    variant, tower = text.split(":")
    return variant, tower


def build(folder: Path, cell: str) -> None:
    """Write a cell's three files and the torch module's input and output."""
    import torch

    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.executorch.backends import get_backend
    from mobileclip_deploy.targets.executorch.lowering import lower
    from mobileclip_deploy.targets.executorch.options import ExecuTorchOptions, LoweringJob
    from mobileclip_deploy.targets.onnx.graph import write_graph
    from mobileclip_deploy.targets.quiet import quiet
    from mobileclip_deploy.towers.tower import example_input, make_tower

    torch.set_num_threads(1)
    variant, tower = cell_of(cell)
    model = golden_source(GOLDENS[variant]).model
    target = folder / f"{variant}_{tower}"
    target.mkdir(parents=True, exist_ok=True)
    job = LoweringJob(
        variant=model.variant,
        tower=tower,
        module=make_tower(model, tower),
        example=example_input(model, tower),
        precision="fp32",
        licence="",
        options=ExecuTorchOptions(),
    )
    backend = get_backend("xnnpack")
    with quiet():
        write_graph(job, target / "model.onnx", *get_target("onnx").ports(job.variant, job.tower))
        (target / "stock.pte").write_bytes(lower(job.module, job, backend, target / "stock.pte"))
        (target / "fast.pte").write_bytes(lower(backend.authored(job), job, backend, target / "fast.pte"))
    (target / "done").touch()


def measure(folder: Path, cell: str, threads: int) -> dict[str, Any]:
    """Time the candidates of one cell, in turns; raw nanoseconds and medians."""
    import numpy as np
    import onnxruntime
    import torch

    from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
    from mobileclip_deploy.targets.executorch.runner import RuntimeRunner
    from mobileclip_deploy.targets.quiet import quiet
    from mobileclip_deploy.towers.tower import example_input, make_tower

    torch.set_num_threads(threads)
    variant, tower = cell_of(cell)
    files = folder / f"{variant}_{tower}"
    model = golden_source(GOLDENS[variant]).model
    module = make_tower(model, tower)
    example = example_input(model, tower)
    if tower == "image":
        example = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(files / "model.onnx", options, providers=["CPUExecutionProvider"])
    with quiet():
        stock, fast = (
            RuntimeRunner(ExecuTorchArtifact(files / name, readable=True), threads)
            for name in ("stock.pte", "fast.pte")
        )
    array = example.numpy()
    candidates: dict[str, Callable[[], Any]] = {
        "torch": lambda: module(example).numpy(),
        "onnxruntime": lambda: session.run(None, {session.get_inputs()[0].name: array})[0],
        BASE: lambda: stock(array),
        "executorch_fast": lambda: fast(array),
    }
    with torch.inference_mode():
        reference = candidates["torch"]()
        errors = {
            name: float(np.linalg.norm(call() - reference) / np.linalg.norm(reference))
            for name, call in candidates.items()
        }
        assert all(error < 1e-3 for error in errors.values()), errors
        load = os.getloadavg()[0]
        wall, cpu = interleave(candidates)
    medians = {name: statistics.median(values) / 1e6 for name, values in wall.items()}
    cpu_medians = {name: statistics.median(values) / 1e6 for name, values in cpu.items()}
    return {
        "variant": variant,
        "tower": tower,
        "threads": threads,
        "load_average": [load, os.getloadavg()[0]],
        "relative_error": errors,
        "wall_ms_median": medians,
        "cpu_ms_median": cpu_medians,
        "speedup_over_stock_wall": {name: medians[BASE] / value for name, value in medians.items()},
        "speedup_over_stock_cpu": {name: cpu_medians[BASE] / value for name, value in cpu_medians.items()},
        "wall_ns": wall,
        "cpu_ns": cpu,
    }


def interleave(candidates: dict[str, Callable[[], Any]]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Wall and CPU nanoseconds of every inference; candidates take turns."""
    names = list(candidates)
    wall: dict[str, list[int]] = {name: [] for name in names}
    cpu: dict[str, list[int]] = {name: [] for name in names}
    for number in range(ROUNDS + WARM_UP):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            for _ in range(REPEATS):
                started, processed = time.perf_counter_ns(), time.process_time_ns()
                candidates[name]()
                if number >= WARM_UP:
                    wall[name].append(time.perf_counter_ns() - started)
                    cpu[name].append(time.process_time_ns() - processed)
    return wall, cpu


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions("torch", "onnxruntime", "executorch"),
    }


def summary(cell: dict[str, Any]) -> str:
    """One line for people."""
    times = ", ".join(f"{name} {value:.1f}" for name, value in cell["wall_ms_median"].items())
    fast = cell["speedup_over_stock_wall"]["executorch_fast"]
    cpu = cell["speedup_over_stock_cpu"]["executorch_fast"]
    head = f"{cell['variant']} {cell['tower']}, {cell['threads']} thread(s)"
    return (
        f"{head}: ms {times}; fast path {fast:.2f}x of stock (CPU time {cpu:.2f}x), load {cell['load_average'][0]:.1f}"
    )


if __name__ == "__main__":
    main()
