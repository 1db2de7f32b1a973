"""Towers through Core AI on golden weights in Apple's runtime, and what an export costs beside Apple's bare converter.

    python benchmarks/coreai_goldens.py --json benchmarks/results/coreai_goldens.json

Float32, on the three images and five prompts of tests/golden, against the reference implementations' embeddings. Every
row is a process of its own; so is the bare converter (torch.export, coreai-torch, save_asset) of the same tower. Exit
code 1 when a row is outside of its bound. With coreai-opt beside it (`--tables`) nano's image tower is stored by its
4-bit tables, too, and compared with ours: the noise of the weights alone, in float32 arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import alone, golden_source, versions

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
GOLDENS = ("mobileclip-s0.apple", "mobileclip-s2.apple", "mobileclip-b.apple")


def main() -> int:
    """Measure every row in turn, print it, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", default=",".join(GOLDENS), help="names of tests/golden, by default %(default)s")
    parser.add_argument("--towers", default="image,text", help="image, text or both")
    parser.add_argument("--tables", action="store_true", help="compare with coreai-opt's 4-bit tables, too")
    parser.add_argument("--json", help="write the table to this file")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        what, *rest = arguments.row.split(":")
        steps: dict[str, Callable[..., dict[str, Any]]] = {"export": export, "bare": bare, "tables": tables}
        print(json.dumps(steps[what](*rest)))
        return 0
    rows = []
    for golden in arguments.goldens.split(","):
        for tower in arguments.towers.split(","):
            ours, theirs = (alone(__file__, "--row", f"{what}:{golden}:{tower}") for what in ("export", "bare"))
            rows.append(ours | {"bare": theirs})
            print(json.dumps(rows[-1]), flush=True)
    told: dict[str, Any] = {
        "schema_version": 1,
        "versions": versions("torch", "coreai-core", "coreai-torch"),
        "rows": rows,
    }
    if arguments.tables:
        told["tables"] = alone(__file__, "--row", "tables")
        print(json.dumps(told["tables"]))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["within"] for row in rows) else 1


def export(golden: str, tower: Any) -> dict[str, Any]:
    """Our export of one tower, its CPU seconds and peak memory; then what Apple's runtime answers."""
    import torch
    from golden_checkpoints import GoldenCheckpoint

    from mobileclip_deploy.files import artifact_bytes
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.jobs import tower_job

    torch.set_num_threads(1)
    job = tower_job(golden_source(golden), tower, "fp32")
    with tempfile.TemporaryDirectory(prefix="coreai-goldens-") as folder:
        target, path = get_target("coreai"), Path(folder) / "ours.aimodel"
        _warm()
        started = time.process_time()
        target.write(job, path)
        cost = _cost(started)
        answers, bound = GoldenCheckpoint(golden), GoldenCheckpoint(golden).bound(tower)
        runner = target.open(path).runner()
        started = time.process_time()
        outputs = runner(answers.inputs(tower).numpy())
        seconds = (time.process_time() - started) / len(outputs)
        deviation = compare(answers.arrays[f"{tower}_embeddings"].numpy(), outputs)
        return {
            "golden": golden,
            "tower": tower,
            "deviation": deviation.model_dump(),
            "bound": bound,
            "within": deviation.relative <= bound,
            "bytes": artifact_bytes(path),
            "run_cpu_s": round(seconds, 2),
            "engine": runner.engine,
            "export": cost,
        }


def bare(golden: str, tower: Any) -> dict[str, float]:
    """What Apple's converter takes for the same tower."""
    import coreai_torch
    import torch

    from mobileclip_deploy.towers.tower import example_input, make_tower

    torch.set_num_threads(1)
    model = golden_source(golden).model
    module, example = make_tower(model, tower), example_input(model, tower)
    example = example if tower == "image" else example.to(torch.int32)
    with tempfile.TemporaryDirectory(prefix="coreai-goldens-") as folder:
        _warm()
        started = time.process_time()
        program = torch.export.export(module, (example,)).run_decompositions(coreai_torch.get_decomp_table())
        converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
        converter.add_exported_program(program).to_coreai().save_asset(Path(folder) / "bare.aimodel")
        return _cost(started)


def tables() -> dict[str, Any]:
    """nano's image tower at 4 bits: coreai-opt's tables with its own settings, and ours."""
    import torch
    from coreai_opt.coreai_utils.passes.weight_palettization import CompressionGranularity, palettize_weights

    import mobileclip_deploy as mcd
    from mobileclip_deploy.checkpoints.source import Source
    from mobileclip_deploy.files import artifact_bytes
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.jobs import tower_job
    from mobileclip_deploy.towers.inputs import sample_inputs
    from mobileclip_deploy.towers.tower import make_tower

    model = mcd.load_model()
    mcd.reparameterize(model)
    pixels, target, source = sample_inputs(model).of("image"), get_target("coreai"), Source.of(model)
    with torch.no_grad():
        wanted = make_tower(model, "image")(torch.from_numpy(pixels)).numpy()
    told: dict[str, Any] = {**versions("coreai-opt")}
    with tempfile.TemporaryDirectory(prefix="coreai-tables-") as folder:

        def measured(path: Path) -> dict[str, Any]:
            runner = target.open(path).plain_runner()
            assert runner is not None
            return compare(wanted, runner(pixels)).model_dump() | {"bytes": artifact_bytes(path)}

        ours, whole = Path(folder) / "w4p.aimodel", Path(folder) / "fp16.aimodel"
        target.write(tower_job(source, "image", "w4p"), ours)
        target.write(tower_job(source, "image", "fp16"), whole)
        told["ours"] = measured(ours)
        from coreai.authoring import AIModelAsset

        for granularity in (CompressionGranularity.PER_TENSOR, CompressionGranularity.PER_GROUPED_CHANNEL):
            path = Path(folder) / f"{granularity.value}.aimodel"
            program = AIModelAsset.load(whole).program
            palettize_weights(program, None, 4, granularity=granularity, num_kmeans_workers=1).save_asset(path)
            told[str(granularity.value)] = measured(path)
    return told


def _warm() -> None:
    """What is imported once does not count."""
    import coreai.authoring  # noqa: F401
    import coreai_torch  # noqa: F401


def _cost(started: float) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_s": round(time.process_time() - started, 2), "peak_gb": round(peak / 1e9, 3)}


if __name__ == "__main__":
    sys.exit(main())
