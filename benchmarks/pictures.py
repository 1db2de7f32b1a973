"""What taking pictures as bytes costs an ONNX image tower, by the picture's size.

    python benchmarks/pictures.py

The part in front of the tower alone, in ONNX Runtime at one thread, in CPU time, as a share of S0's image tower (golden
weights, float32): the graph that `--input bytes` writes, and ONNX Runtime's antialiased Resize, which it takes for
pictures that are not large. All in turn, round after round. Writes benchmarks/results/pictures.json and the table in
docs/layouts.md. About 2 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from generated import replace_block
from onnx_speed import GOLDENS, golden, processor

from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.model.variants import Preprocess, load_variant
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.onnx import pictures
from mobileclip_deploy.targets.onnx.runner import open_session

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "pictures.json"
PAGE = ROOT.parent / "docs" / "layouts.md"
VARIANT = "mobileclip_s0"
SIZES = ((64, 48, 3), (1001, 751, 3), (1280, 1024, 3), (4000, 3000, 3), (3000, 4000, 3), (4000, 3000, 4))
"""Width, height, channels."""
ROUNDS, WARM_UP = 15, 2


def main() -> None:
    """Measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    result: dict[str, Any] = {
        "schema_version": 1,
        "versions": {name: version(name) for name in ("mobileclip-deploy", "onnxruntime", "numpy")},
        "machine": {"processor": processor(), "python": platform.python_version()},
        "pictures": measured(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    replace_block(PAGE, "<!-- begin: benchmarks/pictures.py -->", "<!-- end -->", table(result["pictures"]))


def measured() -> list[dict[str, Any]]:
    """CPU time of both ways for every size, as shares of the tower's time in the same round."""
    spec = load_variant(VARIANT).preprocess
    random = np.random.default_rng(0)
    given = {size: random.integers(0, 256, (size[1], size[0], size[2]), dtype=np.uint8) for size in SIZES}
    pixels = random.random((1, 3, spec.size, spec.size), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        get_target("onnx").write(tower_job(Source.of(golden(GOLDENS[VARIANT])), "image", "fp32"), path)
        tower = open_session(path, threads=1)
    ways = {"written": front(spec, pictures.LARGE), "resize": front(spec, 2**62)}
    tower_times: list[float] = []
    times: dict[tuple[str, tuple[int, int, int]], list[float]] = {(way, size): [] for way in ways for size in SIZES}
    for _ in range(WARM_UP + ROUNDS):
        tower_times.append(cpu(lambda: tower.run(None, {"pixel_values": pixels})))
        for way, size in times:
            times[way, size].append(cpu(partial(ways[way].run, None, {"pixels": given[size]})))

    def share(way: str, size: tuple[int, int, int]) -> float:
        return statistics.median(np.array(times[way, size][WARM_UP:]) / np.array(tower_times[WARM_UP:]))

    return [
        {"width": size[0], "height": size[1], "channels": size[2]} | {way: share(way, size) for way in ways}
        for size in SIZES
    ]


def front(spec: Preprocess, large: int) -> Any:
    """A session of what stands in front of a tower; `large`: from how many pixels on products of bytes resize."""
    shape, kind = ir.Shape(["batch", 3, spec.size, spec.size]), ir.TensorType(ir.DataType.FLOAT)
    source = ir.Value(name="pixels", type=kind, shape=shape)
    result = ir.Value(name="result", type=kind, shape=shape)
    node = ir.node("Identity", [source], outputs=[result])
    model = ir.Model(ir.Graph([source], [result], nodes=[node], opset_imports={"": 20}), ir_version=10)
    own, pictures.LARGE = pictures.LARGE, large
    try:
        pictures.take_pictures(model, spec)
    finally:
        pictures.LARGE = own
    return open_session(ir.to_proto(model).SerializeToString(), threads=1)


def cpu(work: Callable[[], object]) -> float:
    """Its CPU time in seconds."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def table(rows: list[dict[str, Any]]) -> str:
    """Shares as Markdown."""
    lines = ["| picture | share of S0's image tower | with Resize alone |", "|---|---:|---:|"]
    for row in rows:
        what = f"{row['width']} x {row['height']} {'RGBA' if row['channels'] == 4 else 'RGB'}"
        lines.append(f"| {what} | {row['written']:.2f} | {row['resize']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
