"""Every variant's towers on golden weights, against the reference implementations' embeddings.

    python benchmarks/goldens.py --json benchmarks/results/executorch_goldens.json
    python benchmarks/goldens.py --targets coreai --json benchmarks/results/coreai_goldens.json

ExecuTorch: XNNPACK float32 in the wheel's own runtime, and Core ML float16 by this package's evaluator on the package
inside the .pte; Core AI: float32 in Apple's runtime; on the three images and five prompts of tests/golden. Every tower
is a process of its own. Exit code 1 when one is outside of its bound. The test suite exports a part of the table.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import alone, golden_source, versions

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
APPLE = ("mobileclip-s0", "mobileclip-s1", "mobileclip-s2", "mobileclip-b")
GOLDENS = (*(f"{name}.apple" for name in APPLE), "mobileclip2-s0.openclip")
# Where torch itself in float16 is outside of the gate, an export may be this much further than torch.
AMPLIFIED = 1.5
TARGETS = {"executorch-xnnpack": "fp32", "executorch-coreml": "fp16", "coreai": "fp32"}
PACKAGES = ("torch", "executorch", "coremltools", "coreai-core", "coreai-torch")


def main() -> int:
    """Measure every row in turn, print it, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", default=",".join(GOLDENS), help="names of tests/golden, by default %(default)s")
    parser.add_argument("--targets", default="executorch-xnnpack,executorch-coreml", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--towers", default="image,text", help="image, text or both")
    parser.add_argument("--json", help="write the table to this file")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(*arguments.row.split(":"))))
        return 0
    rows = []
    for golden in arguments.goldens.split(","):
        for tower in arguments.towers.split(","):
            for target in arguments.targets.split(","):
                rows.append(alone(__file__, "--row", f"{golden}:{tower}:{target}"))
                print(summary(rows[-1]), flush=True)
    if arguments.json:
        text = json.dumps({"schema_version": 1, "versions": versions(*PACKAGES), "rows": rows}, indent=1)
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    return 0 if all(row["within"] for row in rows) else 1


def measure(golden: str, tower: Any, target: str) -> dict[str, Any]:
    """Export one tower, run it, compare it; seconds are CPU time."""
    import torch
    from golden_checkpoints import GoldenCheckpoint, folded_golden

    from mobileclip_deploy.base.files import artifact_bytes
    from mobileclip_deploy.network.model.precision import PRECISIONS
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.quiet import hold_back

    torch.set_num_threads(1)
    precision = TARGETS[target]
    with tempfile.TemporaryDirectory(prefix="goldens-") as folder:
        folded_golden(golden)
        started = time.process_time()
        path = export_golden(golden, tower, target, precision, Path(folder))
        seconds = time.process_time() - started
        with hold_back():
            deviation = deviation_of(golden, tower, target, path)
        engine, size = get_target(target).open(path).runner().engine, artifact_bytes(path)
    half = None
    if precision == "fp32":
        bound = GoldenCheckpoint(golden).bound(tower)
        gate, within = f"relative <= {bound:g}", deviation.relative <= bound
    else:
        bound, half = PRECISIONS[precision].gate, torch_float16(golden, tower)
        gate = f"cosine >= {bound:g}, or relative <= {AMPLIFIED} x that of torch in float16"
        within = deviation.cosine >= bound or deviation.relative <= AMPLIFIED * half["relative"]
    return {
        "golden": golden,
        "tower": tower,
        "target": target,
        "precision": precision,
        "gate": gate,
        "within": within,
        "deviation": deviation.model_dump(),
        "torch_float16": half,
        "bytes": size,
        "export_cpu_s": round(seconds, 1),
        "engine": engine,
    }


def export_golden(golden: str, tower: Any, name: str, precision: str, folder: Path) -> Path:
    """One tower as an artifact; `precision` must need no calibration images of its own."""
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.jobs import tower_job

    source, target = golden_source(golden), get_target(name)
    path = folder / target.artifact_name(source.model.variant, tower, precision)
    target.write(tower_job(source, tower, precision), path)
    return path


def deviation_of(golden: str, tower: Any, target: str, path: Path) -> Any:
    """What an artifact answers against the embeddings of the unfolded reference."""
    from golden_checkpoints import GoldenCheckpoint

    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import get_target

    answers = GoldenCheckpoint(golden)
    outputs = get_target(target).open(path).runner()(answers.inputs(tower).numpy())
    return compare(answers.arrays[f"{tower}_embeddings"].numpy(), outputs)


def torch_float16(golden: str, tower: Any) -> dict[str, float]:
    """How far the tower itself is in float16: random weights amplify rounding (S1, S2), whatever the export does."""
    import copy

    import torch
    from golden_checkpoints import GoldenCheckpoint, folded_golden

    from mobileclip_deploy.artifacts.towers.tower import make_tower
    from mobileclip_deploy.parity import compare

    answers = GoldenCheckpoint(golden)
    half = copy.deepcopy(make_tower(folded_golden(golden), tower)).half()
    with torch.no_grad():
        rows = answers.inputs(tower).split(1)
        outputs = torch.cat([half(row.half() if row.is_floating_point() else row).float() for row in rows])
    found = compare(answers.arrays[f"{tower}_embeddings"].numpy(), outputs.numpy())
    return {"relative": found.relative, "cosine": found.cosine}


def summary(row: dict[str, Any]) -> str:
    """One line for people."""
    deviation = row["deviation"]
    figures = f"relative {deviation['relative']:.1e}, cosine {deviation['cosine']:.7f}"
    verdict = "within" if row["within"] else "OUTSIDE"
    head = f"{row['golden']} {row['tower']} {row['target']} {row['precision']}"
    return (
        f"{head}: {figures} ({verdict} {row['gate']}), {row['bytes'] / 1e6:.1f} MB, exported in {row['export_cpu_s']} s"
    )


if __name__ == "__main__":
    sys.exit(main())
