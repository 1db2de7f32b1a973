"""What an export costs beside its bare converter: CPU time and peak memory, each in a process of its own.

    python benchmarks/export_cost.py --variant mobileclip_s2 --target onnx --precision fp32,fp16
    python benchmarks/export_cost.py --variant mobileclip2_s4 --target coreml --precision fp32 --whole

Golden weights (tests/golden_checkpoints) of both towers in a file. The bare converter is a script that loads the same
file, folds, and calls the converter's own function on both towers, one after the other, as its documentation has it, in
float32. Ours is the command `export`, once with `--no-verify` and once whole, with every check before the bundle takes
its place. CPU seconds and the peak are the system's (`wait4`), children and imports included. Writes
benchmarks/results/export_cost.json, rows of other variants and targets stay, and the table in docs/figures. With
`--whole` whole exports alone are measured, and the row's other runs stay as they were; of a new row the bare converter
is measured too.
mobileclip_s2 on ONNX takes about 8 minutes of CPU.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import ROOT, Figures, markdown, versions

KEPT = Figures("export_cost")
MOST_ABOVE = 1.1
GOLDENS = {
    "mobileclip_s0": "mobileclip-s0.apple",
    "mobileclip_s2": "mobileclip-s2.apple",
    "mobileclip2_s4": "mobileclip2-s4.openclip",
}
PROGRAM = (sys.executable, "-c", "from mobileclip_deploy.cli import main; main()")
CONVERTERS = {
    "onnx": "onnx",
    "coreml": "coremltools",
    "coreai": "coreai-torch",
    "litert": "litert-torch",
    "executorch": "executorch",
}


def main() -> None:
    """Measure, write the figures, and renew the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=["nano", *GOLDENS], default="mobileclip_s2")
    parser.add_argument("--target", choices=list(CONVERTERS), default="onnx")
    parser.add_argument("--precision", default="fp32,fp16", help="with commas")
    parser.add_argument("--whole", action="store_true", help="whole exports alone, and the bare converter once")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is not None:
        STEPS[given.step](given.variant, given.file, given.target)
        return
    runs = [one["runs"] for one in KEPT.rows() if (one["variant"], one["target"]) == (given.variant, given.target)]
    known = (runs or [{}])[0] if given.whole else None
    for row in measured(given.variant, given.target, given.precision.split(","), known):
        kept = [one for one in KEPT.rows() if (one["variant"], one["target"]) != (row["variant"], row["target"])]
        KEPT.write_rows(sorted([*kept, row], key=lambda one: (one["variant"], one["target"])))
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "page.py")], check=True)


def measured(
    variant: str, target: str, precisions: list[str], known: dict[str, dict[str, float]] | None = None
) -> Iterator[dict[str, Any]]:
    """A variant on a target, after each run: the bare converter, and ours at every precision without checks and whole;
    where runs are `known`, what is missing of the bare converter and whole ones.

    Nothing large is done in this process: a child's peak begins with its parent's.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "golden.safetensors"
        script = [sys.executable, __file__, "--variant", variant, "--target", target, "--file", str(path), "--step"]
        subprocess.run([*script, "file"], check=True)
        runs: dict[str, dict[str, float]] = dict(known or {})
        row: dict[str, Any] = {
            "variant": variant,
            "target": target,
            "weights_gb": path.stat().st_size / 1e9,
            "versions": versions("mobileclip-deploy", "torch", CONVERTERS[target]),
            "machine": {"python": platform.python_version(), "load": os.getloadavg()[0]},
            "runs": runs,
        }
        if "bare converter" not in runs:
            runs["bare converter"] = cost([*script, "bare"])
        for precision in precisions:
            for name, flags in (("without checks", ["--no-verify"]), ("whole", [])):
                if known is not None and name != "whole":
                    continue
                command = [*PROGRAM, "export", "--variant", variant, "--checkpoint", str(path), "--target", target]
                command += ["--precision", precision, "-o", folder, "--force", *flags]
                runs[f"export {precision}, {name}"] = cost(command)
                print(variant, target, runs, file=sys.stderr, flush=True)
                yield row


def cost(command: list[str]) -> dict[str, float]:
    """CPU seconds and peak memory in GB of a process and its children, one thread.

    Raises:
        CalledProcessError: it failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(status, command, stderr=said.decode(errors="replace")[-2000:])
    unit = 1 if sys.platform == "darwin" else 1024
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_gb": used.ru_maxrss * unit / 1e9}


def write_golden(variant: str, path: Path, _: str) -> None:
    """The checkpoint, both towers, as a file; nano's own, which is trained."""
    from golden_checkpoints import GoldenCheckpoint

    from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
    from mobileclip_deploy.network.checkpoints.writing import save_tensors

    if variant not in GOLDENS:
        shutil.copy(builtin_checkpoint(), path)
        return
    tensors = GoldenCheckpoint(GOLDENS[variant]).file()
    save_tensors(path, {key: tensors.read(key) for key in tensors.shapes}, {})


def bare(variant: str, path: Path, target: str) -> None:
    """What somebody would write who has the folded network and the converter."""
    import torch

    import mobileclip_deploy as mcd
    from mobileclip_deploy.artifacts.towers.tower import example_input, make_tower

    model = mcd.load_model(variant, path)
    mcd.reparameterize(model)
    for name in model.towers:
        module, example = make_tower(model, name), example_input(model, name)
        out = path.parent / f"bare_{name}"
        with torch.no_grad():
            if target == "onnx":
                torch.onnx.export(module, (example,), f"{out}.onnx", dynamo=True, external_data=False)
            elif target == "coreml":
                import coremltools as ct

                program = torch.export.export(module, (example.int() if name == "text" else example,))
                shape = ct.TensorType(shape=example.shape)
                kept = ct.precision.FLOAT32
                ct.convert(
                    program.run_decompositions({}), inputs=[shape], compute_precision=kept, skip_model_load=True
                ).save(f"{out}.mlpackage")
            elif target == "coreai":
                import coreai_torch

                given = (example.int() if name == "text" else example,)
                lowered = torch.export.export(module, given).run_decompositions(coreai_torch.get_decomp_table())
                converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
                converter.add_exported_program(lowered).to_coreai().save_asset(Path(f"{out}.aimodel"))
            elif target == "litert":
                import litert_torch

                litert_torch.convert(module, (example,)).export(f"{out}.tflite")
            else:
                from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
                from executorch.exir import to_edge_transform_and_lower

                edge = to_edge_transform_and_lower(
                    torch.export.export(module, (example,)), partitioner=[XnnpackPartitioner()]
                )
                Path(f"{out}.pte").write_bytes(edge.to_executorch().buffer)


STEPS: dict[str, Callable[[str, Path, str], None]] = {"file": write_golden, "bare": bare}


def section() -> str:
    """What docs/figures/benchmarks.md says of it; nothing where it was not measured."""
    rows = KEPT.rows()
    if not rows:
        return ""
    found = {(row["variant"], row["target"]) for row in rows}
    missing = [
        f"{variant} on {target}"
        for variant in ("mobileclip_s2", "mobileclip2_s4")
        for target in CONVERTERS
        if (variant, target) not in found
    ]
    lines = [
        "## What an export costs",
        "",
        "Both towers from a checkpoint's file (golden weights) to a bundle, beside a script that calls the converter's "
        "own function on the same folded towers in float32. *Whole* is an export as it comes, every check included; "
        "CPU seconds and peak memory are the system's, of the process and its children, on one thread. Core AI's "
        "checks run in Apple's runtime, which computes for proof: they are most of its whole export.",
        "",
        table(rows),
        "",
        "; ".join(dict.fromkeys(f"{key} {value}" for row in rows for key, value in row["versions"].items()))
        + f"; load average {max(row['machine']['load'] for row in rows):.1f}: compare ratios only. "
        "`python benchmarks/export_cost.py --variant VARIANT --target TARGET` renews a row"
        + (f"; not measured yet: {', '.join(missing)}." if missing else ".")
        + f" {above(rows)}",
    ]
    return "\n".join(lines)


def above(rows: list[dict[str, Any]]) -> str:
    """Whole exports that peak more than a tenth above the bare converter and the weights once, in a sentence."""
    told = []
    for row in rows:
        bound = row["runs"]["bare converter"]["peak_gb"] + row["weights_gb"]
        for name, run in row["runs"].items():
            if name.endswith("whole") and run["peak_gb"] > MOST_ABOVE * bound:
                where = f"{row['variant']} on {row['target']} by {run['peak_gb'] / bound - 1:.0%}"
                told.append(f"{where} ({row['versions']['mobileclip-deploy']})")
    return f"More than a tenth above that bound: {', '.join(told)}." if told else ""


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    heads = ("variant", "target", "what", "CPU s", "times the bare converter", "peak GB", "bare and the weights once")
    told = []
    for row in rows:
        first = row["runs"]["bare converter"]
        bound = first["peak_gb"] + row["weights_gb"]
        for name, run in row["runs"].items():
            cells = [row["variant"], row["target"], name, f"{run['cpu_s']:.1f}", f"{run['cpu_s'] / first['cpu_s']:.2f}"]
            told.append([*cells, f"{run['peak_gb']:.2f}", f"{bound:.2f}"])
    return "\n".join(markdown(heads, told))


if __name__ == "__main__":
    main()
