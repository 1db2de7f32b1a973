"""What taking pictures as bytes costs an ONNX image tower, by the picture's size.

    python benchmarks/pictures.py

The part in front of the tower alone, in ONNX Runtime at one thread, in CPU time, as a share of S0's image tower (golden
weights, float32): the graph that `--input bytes` writes, and ONNX Runtime's antialiased Resize, which it takes for
pictures that are not large. All in turn, round after round. Writes benchmarks/results/pictures.json and the table in
docs/figures/apps.md. About 2 minutes of one core.
"""

import platform
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from measuring import Figures, golden_source, in_turns, markdown, processor, versions

from mobileclip_deploy.network.model.variants import Preprocess
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.onnx import pictures
from mobileclip_deploy.targets.onnx.runner import open_session

KEPT = Figures("pictures", "figures/apps.md")
SIZES = ((64, 48, 3), (1001, 751, 3), (1280, 1024, 3), (4000, 3000, 3), (3000, 4000, 3), (4000, 3000, 4))
"""Width, height, channels."""
ROUNDS = 15


def main() -> None:
    """Measure, write the figures, and renew the table."""
    result: dict[str, Any] = {
        "schema_version": 1,
        "versions": versions("mobileclip-deploy", "onnxruntime", "numpy"),
        "machine": {"processor": processor(), "python": platform.python_version()},
        "pictures": measured(),
    }
    KEPT.write(result)
    KEPT.show(table(result["pictures"]))


def measured() -> list[dict[str, Any]]:
    """CPU time of both ways for every size, as shares of the tower's time in the same round."""
    source = golden_source("mobileclip-s0.apple")
    spec = source.variant.preprocess
    random = np.random.default_rng(0)
    given = {size: random.integers(0, 256, (size[1], size[0], size[2]), dtype=np.uint8) for size in SIZES}
    pixels = random.random((1, 3, spec.size, spec.size), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        get_target("onnx").write(tower_job(source, "image", "fp32"), path)
        tower = open_session(path, threads=1)
    ways = {"written": front(spec, pictures.LARGE), "resize": front(spec, 2**62)}
    calls = {
        f"{way} {size}": partial(session.run, None, {"pixels": given[size]})
        for way, session in ways.items()
        for size in SIZES
    }
    times = in_turns({"tower": partial(tower.run, None, {"pixel_values": pixels}), **calls}, ROUNDS)

    def share(way: str, size: tuple[int, int, int]) -> float:
        return statistics.median(np.array(times[f"{way} {size}"]) / np.array(times["tower"]))

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


def table(rows: list[dict[str, Any]]) -> str:
    """Shares as Markdown."""
    told = []
    for row in rows:
        what = f"{row['width']} x {row['height']} {'RGBA' if row['channels'] == 4 else 'RGB'}"
        told.append([what, f"{row['written']:.2f}", f"{row['resize']:.2f}"])
    return "\n".join(markdown(("picture", ">share of S0's image tower", ">with Resize alone"), told))


if __name__ == "__main__":
    main()
