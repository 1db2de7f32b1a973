"""Towers of real size on Qualcomm's NPU, with golden weights: what is placed there, bytes, CPU seconds of compiling,
and how near the emulator's answers are to exact arithmetic.

    python benchmarks/qnn_goldens.py                # docs/figures/qualcomm.md, benchmarks/results/qnn_goldens.json
    python benchmarks/qnn_goldens.py --rows "s2 .*w8a16"   # those that match alone; the rest stays

A row is written as soon as it is measured, and one that stands in the file is not measured again. No row holds a time
of the emulator: it is no latency of an NPU. Weights are filled from a seed, so that rows say nothing of accuracy.
Exit code 1 where a tower in fp16 misses the goal of its cosine, or an operation is not on the NPU.
"""

import argparse
import json
import re
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from measuring import Figures, markdown, versions

KEPT = Figures("qnn_goldens", "figures/qualcomm.md")
GOLDENS = {
    "S0": "mobileclip-s0.apple",
    "S1": "mobileclip-s1.apple",
    "S2": "mobileclip-s2.apple",
    "B": "mobileclip-b.apple",
    "S3": "mobileclip2-s3.openclip",
}
PRECISIONS = {"image": ("fp16", "w8a16", "w8a8"), "text": ("fp16", "w8a16", "w8a8")}
CHIP = "sm8650"
INPUTS, CALIBRATION = 2, 8
"""How many photographs or prompts are asked for, and are ranges measured on."""
COSINE = 0.9999
"""The goal of fp16, on the worst input."""


def main() -> int:
    """Measure what is missing, print, write the table and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="measure those that this expression is found in, again")
    parser.add_argument("--page-only", action="store_true", help="write the page from what was measured before")
    arguments = parser.parse_args()
    rows = {named(row): row for row in KEPT.rows()}
    every = [(name, tower, precision) for name in GOLDENS for tower in PRECISIONS for precision in PRECISIONS[tower]]
    for name, tower, precision in sorted(every, key=lambda row: PRECISIONS[row[1]].index(row[2])):  # fp16 first
        key = f"{name} {tower} {precision}".lower()
        again = bool(arguments.rows) and re.search(arguments.rows, key) is not None
        if arguments.page_only or not (again or (not arguments.rows and key not in rows)):
            continue
        rows[key] = measured(name, tower, precision)
        print(json.dumps(rows[key]), flush=True)
        order = {f"{one} {two} {three}".lower(): place for place, (one, two, three) in enumerate(every)}
        found = sorted(rows.values(), key=lambda row: order[named(row)])
        KEPT.write_rows(found, chip=CHIP, versions=versions("torch", "onnxruntime", "onnxruntime-qnn"))
    KEPT.show(table(KEPT.read()))
    near = all(row["emulator"]["cosine"] >= COSINE for row in rows.values() if row["precision"] == "fp16")
    return 0 if near and not any(row["left"] for row in rows.values()) else 1


def named(row: dict[str, Any]) -> str:
    """What a row is of."""
    return f"{row['variant']} {row['tower']} {row['precision']}".lower()


def measured(name: str, tower: Any, precision: str) -> dict[str, Any]:
    """A tower written, compiled for one chip and asked for the packaged photographs or prompts."""
    import torch
    from golden_checkpoints import folded_golden
    from writing import job_of

    from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
    from mobileclip_deploy.parity import compare
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.onnx.graph import write_graph
    from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
    from mobileclip_deploy.targets.onnx.quantization import Quantizing
    from mobileclip_deploy.targets.qnn.chips import chips_of
    from mobileclip_deploy.targets.qnn.context import pointed
    from mobileclip_deploy.targets.qnn.emulator import EmulatorRunner, placement

    torch.set_num_threads(1)
    model = folded_golden(GOLDENS[name])
    (chip,) = chips_of(CHIP)
    ports = get_target("qnn").ports(model.variant, tower)
    samples = calibration_inputs(model.variant, tower, None)
    job = replace(job_of(model, tower, "fp16"), precision=precision, calibration=samples[:CALIBRATION])
    asked = samples[:INPUTS]
    exact, floor = answers(job.module, asked)
    with tempfile.TemporaryDirectory(prefix="qnn-goldens-") as kept:
        source = Path(kept) / f"{name.lower()}_{tower}.onnx"
        write_graph(job, source, ports, Quantizing(beforehand=True))
        before = spent()
        made = placement(chip, source)
        seconds = spent() - before
        context = source.with_name(f"{source.stem}.{chip.label}.onnx")
        context.with_suffix(".bin").write_bytes(made.binary)
        context.write_bytes(pointed(made.context, context.with_suffix(".bin").name))
        emulated = EmulatorRunner(chip, {ports[0].shape: context}, ports[0])(asked)
        cpu = OnnxArtifact(source).runner()(asked)
    return {
        "variant": name,
        "tower": tower,
        "precision": precision,
        "operations": made.operations,
        "left": [f"{one.type}: {one.reason}" for one in made.left],
        "bytes": len(made.binary),
        "compile_cpu_s": round(seconds, 1),
        "floor": compare(exact, floor).model_dump(),
        "emulator": compare(exact, emulated).model_dump(),
        "onnxruntime": compare(exact, cpu).model_dump(),
    }


def answers(module: Any, inputs: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A tower's embeddings in exact arithmetic (float64), and in the network's own float32."""
    import copy

    import torch

    given = torch.from_numpy(inputs)
    with torch.no_grad():
        single = module(given).numpy()
        double = copy.deepcopy(module).double()
        return double(given.double() if given.is_floating_point() else given).numpy(), single


def spent() -> float:
    """CPU seconds of the processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(told: dict[str, Any]) -> str:
    """The table of docs/figures/qualcomm.md."""
    heads = ("tower", "precision", "on the NPU", "binary, MB", "compiling, CPU s", "cosine", "dB")
    rows = []
    for row in told["rows"]:
        left = f"all but {len(row['left'])} of {row['operations']}" if row["left"] else f"all {row['operations']}"
        emulator, floor = row["emulator"], row["floor"]
        cells = [f"{row['variant']}, {row['tower']}", f"`{row['precision']}`", left, f"{row['bytes'] / 1e6:.1f}"]
        cells += [f"{row['compile_cpu_s']:.1f}", f"{emulator['cosine']:.6f}", f"{emulator['snr_db']:.1f}"]
        cells += [f"{emulator['relative'] / floor['relative']:,.0f}", f"{row['onnxruntime']['snr_db']:.1f}"]
        rows.append(cells)
    lines = markdown((*heads, "relative, float32's = 1", "dB of ONNX Runtime's CPU"), rows)
    by = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return "\n".join([*lines, "", f"`python benchmarks/qnn_goldens.py`; {by}; {told['chip']}."])


if __name__ == "__main__":
    sys.exit(main())
