"""A small job and its result, for tests to change."""

from typing import Any

import numpy as np

from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Result, Run
from mobileclip_deploy.benchmark.statistics import summarize

HASH = "0" * 64
GOLDEN = {"inputs": 2, "cosine": 0.99999999, "relative": 3e-7, "passed": True}
"""The verdict on right answers to the golden inputs of `job()`."""
EXPECTED = {"golden/inputs.bin": np.array([[1, 2, 3, 4], [-2, 1, 0, 3]], np.float32)}
"""What they are."""
PROTOCOL = {
    "name": "standard-quick",
    "warm_up_iterations": 1,
    "rounds": 2,
    "iterations_per_round": 3,
    "seconds_per_round": 0.0,
    "reload_each_round": False,
    "trim_fraction": 0.1,
    "statistic": "median",
}


def job(**changes: Any) -> Job:
    """Two cells, two rounds, checked by golden files."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "run_id": "20261124T180000-0011",
        "seed": 11,
        "protocol": PROTOCOL | {"golden_inputs": 2},
        "cells": [cell("onnx-image", "onnxruntime"), cell("executorch-image", "executorch")],
        "order": [
            {"cell": "executorch-image", "round": 0},
            {"cell": "onnx-image", "round": 0},
            {"cell": "onnx-image", "round": 1},
            {"cell": "executorch-image", "round": 1},
        ],
    }
    return Job.model_validate(values | changes)


def cell(name: str, runtime: str) -> dict[str, Any]:
    return {
        "id": name,
        "label": f"nano image fp32, {runtime}",
        "competitor": False,
        "bundle": f"nano-{runtime}-fp32",
        "variant": "nano",
        "tower": "image",
        "target": runtime,
        "precision": "fp32",
        "file": f"models/{name}.bin",
        "sha256": HASH,
        "bytes": 1000,
        "runtime": runtime,
        "backend": "cpu",
        "threads": 1,
        "input": {"name": "pixel_values", "dtype": "float32", "shape": [1, 3, 8, 8]},
        "output": {"name": "image_embeds", "dtype": "float32", "shape": [1, 4]},
        "golden": {
            "inputs": {"dtype": "float32", "sha256": HASH, "file": "golden/inputs.bin", "shape": [2, 3, 8, 8]},
        },
        "gate": {"metric": "relative", "bound": 1e-4},
    }


def sent() -> Run:
    """What a phone sends of `job()`: rounds, and what it is."""
    whole = result()
    shared = {name: getattr(whole, name) for name in Run.model_fields if name != "rounds"}
    return Run(**shared, rounds=tuple(item for cell in whole.cells for item in cell.rounds))


def result(**changes: Any) -> Result:
    """What a phone might answer to `job()`: the first cell done, the second invalid."""
    asked = job()
    base = {"run_id": asked.run_id, "cell": "onnx-image", "status": "done", "cpu_ns": 6_000_000}
    rounds = [
        base
        | {"round": 0, "samples_ns": [2_000_000, 2_100_000, 1_900_000], "load_first_ns": 5_000_000, "golden": GOLDEN},
        base | {"round": 1, "samples_ns": [2_000_000, 2_200_000, 2_050_000]},
    ]
    wrong = {"inputs": 2, "cosine": 0.31, "relative": 1.2, "passed": False}
    summary = summarize([item["samples_ns"] for item in rounds], [6_000_000, 6_000_000], 0.1)  # type: ignore[misc]
    values: dict[str, Any] = {
        "schema_version": 1,
        "run_id": asked.run_id,
        "job": asked.model_dump(mode="json"),
        "device": {
            "kind": "android",
            "simulated": True,
            "name": "stand-in",
            "model": "Pixel 0",
            "architecture": "arm64-v8a",
            "os": "Android",
            "os_version": "16",
            "cores": 8,
        },
        "harness": {"name": "test", "version": "0"},
        "runtimes": {"onnxruntime": "1.32.0", "executorch": "1.5.1"},
        "environment": {
            "before": {"unix_seconds": 1_795_000_000.0, "thermal_state": "nominal", "battery_percent": 80},
            "after": {"unix_seconds": 1_795_000_060.0, "thermal_state": "fair", "battery_percent": 79},
        },
        "cells": [
            {
                "id": "onnx-image",
                "status": "done",
                "load_first_ns": 5_000_000,
                "golden": GOLDEN,
                "summary": summary.model_dump(mode="json"),
                "rounds": rounds,
            },
            {"id": "executorch-image", "status": "invalid", "error": "cosine 0.31", "golden": wrong},
        ],
    }
    return Result.model_validate_json(Result.model_validate(values | changes).model_dump_json())
