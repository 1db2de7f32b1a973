"""How much of the tolerance for float32 arithmetic true exports use: networks, fillings, kernels and threads.

    python benchmarks/margins.py
    python benchmarks/margins.py --networks tiny_quick,mobileclip-s0.apple --seeds 1 --targets onnx --towers text
    python benchmarks/margins.py --thirds

The artifacts of a network are written once, and answered in a process for each of torch's kernels
(ATEN_CPU_CAPABILITY), with one and two threads. Prints the tolerances (benchmarks/tolerances.py) with the worst of it,
writes benchmarks/results/margins.json and margins.md, and ends with 1 where a margin is under 3.
Cases that were measured before are kept, or replaced. `--thirds` verifies exports of a small network with a third of
every other constant, and ends with 1 if that fails a check.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

from measuring import Figures, processor, versions
from tolerances import TOLERANCES, table

KEPT, PASSED = Figures("margins"), Figures("margins_thirds")
NETWORKS = ("tiny_mci", "tiny_five", "tiny_stem", "tiny_quick", "tiny_rotary", "tiny_sigmoid")
TARGETS = {"onnx": ("fp32", "fp16", "w8"), "coreml": ("fp16", "w8"), "coreai": ("fp16",), "litert": ("fp16",)}
TARGETS |= {"mlx": ("fp16",)}
KERNELS = ("default", "avx2", "avx512")
KEYS = ("network", "seed", "case", "kernels", "threads")
LEAST_MARGIN = 3.0
THIRDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("onnx", "fp16", {"labels": "dog,cat,pizza", "tower": "image"}),
    ("onnx", "w8a8", {"background": "background"}),
    ("litert", "w8a8", {}),
    ("coreml", "w8a8", {}),
    ("executorch", "fp32", {}),
)
"""Exports that `--thirds` verifies: their checks use every constant that it changes."""
PACKAGES = ("torch", "onnxruntime", "coremltools", "coreai-core", "ai-edge-litert", "mlx", "numpy")


def main() -> int:
    """Measure the cases, print the table, write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="tiny ones, or names of tests/golden")
    parser.add_argument("--seeds", default="1,2,3", help="of the filling")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--precisions", default="fp32,fp16,w8")
    parser.add_argument("--towers", default="image,text")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--kernels", default=",".join(KERNELS))
    parser.add_argument("--thirds", action="store_true", help="verify with a third of every other constant")
    parser.add_argument("--write", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    towers, targets = chosen.towers.split(","), chosen.targets.split(",")
    forms = chosen.precisions.split(",")
    wanted = [
        (tower, name, form) for tower, name in product(towers, targets) for form in TARGETS[name] if form in forms
    ]
    if folder := chosen.write or chosen.answer:
        model = folded(chosen.networks, int(chosen.seeds))
        done = write(model, wanted, folder) if chosen.write else answer(model, wanted, folder, chosen.threads)
        print(json.dumps(done))
        return 0
    if chosen.thirds:
        return thirds()
    rows = KEPT.rows()
    for network, seed in product(chosen.networks.split(","), chosen.seeds.split(",")):
        found = measure(network, seed, chosen)
        cases = {(row["network"], row["seed"], row["case"], row["kernels"], row["threads"]) for row in found}
        kept = (row for row in rows if tuple(row[key] for key in KEYS) not in cases)
        rows = [*kept, *found]
        KEPT.write_rows(rows, versions=versions(*PACKAGES), processor=processor())
    worst = worst_of(rows)
    shown = "\n".join(table(worst, PASSED.results.exists()))
    print(shown)
    KEPT.results.with_suffix(".md").write_text(f"{shown}\n", encoding="utf-8")
    margins = {name: own.margin for name, own in TOLERANCES.items() if not own.source.startswith("derived")}
    margins |= {name: row["margin"] for name, row in worst.items()}
    defects = [name for name, margin in margins.items() if margin is not None and margin < LEAST_MARGIN]
    print(f"margins under {LEAST_MARGIN:g}: {', '.join(defects) or 'none'}")
    return int(bool(defects))


def thirds() -> int:
    """Verify each of THIRDS with all constants, and with a third of those that have a module."""
    import numpy as np
    from PIL import Image
    from tiny import WORDS, known

    import mobileclip_deploy as mcd

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="thirds-") as temporary, known(Path(temporary)) as checkpoint:
        pictures = Path(temporary) / "background"
        pictures.mkdir()
        for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (256, 8, 8, 3), np.uint8)):
            Image.fromarray(pixels).resize((64, 64)).save(pictures / f"{number}.png")
        for target, precision, choices in THIRDS:
            given = choices | ({"background": pictures} if "background" in choices else {})
            output = Path(temporary) / f"{target}-{precision}-{len(choices)}"
            bundle = mcd.export(mcd.load_model(WORDS, checkpoint), target, precision, output, verify=False, **given)
            whole = {check.describe() for check in mcd.verify(bundle, checkpoint=checkpoint).failed}
            with ExitStack() as stack:
                for name, own in TOLERANCES.items():
                    if own.module is not None:
                        place = name.partition(" of ")[0]
                        stack.enter_context(mock.patch.object(own.module, place, own.third(name)))
                report = mcd.verify(bundle, checkpoint=checkpoint)
            new = [f"{check.tower} {check.step}" for check in report.failed if check.describe() not in whole]
            steps = sorted({check.step for check in report.checks if check.status == "passed"})
            print(
                target,
                precision,
                *choices,
                f"passed: {', '.join(steps)}; failed at a third: {new or 'none'}",
                flush=True,
            )
            rows.append(
                {"target": target, "precision": precision, "choices": [*choices], "steps": steps, "failed": new}
            )
    if any(row["failed"] for row in rows):
        PASSED.results.unlink(missing_ok=True)
        return 1
    PASSED.write_rows(rows, versions=versions(*PACKAGES), processor=processor())
    return 0


def measure(network: str, seed: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Every artifact of a network on all kernels and numbers of threads."""
    words = ["--networks", network, "--seeds", seed, "--targets", chosen.targets, "--towers", chosen.towers]
    words += ["--threads", chosen.threads, "--precisions", chosen.precisions]
    rows = []
    with tempfile.TemporaryDirectory(prefix="margins-") as folder:
        alone([*words, "--write", folder], {})
        for kernels in chosen.kernels.split(","):
            found = alone([*words, "--answer", folder], {"ATEN_CPU_CAPABILITY": kernels})
            rows += [{"network": network, "seed": seed, "kernels": kernels, **row} for row in found]
    worst = min(rows, key=lambda row: row["margin"])
    print(
        network, seed, len(rows), f"least margin {worst['margin']:.1f} ({worst['case']})", file=sys.stderr, flush=True
    )
    return rows


def alone(words: list[str], settings: dict[str, str]) -> Any:
    """What this script prints as its last line, in a process of its own."""
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | settings)
    return json.loads(done.stdout.splitlines()[-1])


def worst_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By tolerance: the row that comes nearest to its bound."""
    worst: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = "LEAST" if row["bound"] <= TOLERANCES["LEAST"].value else "MULTIPLE"
        unknown = row | {"margin": TOLERANCES["UNKNOWN"].value / row["deviation"]}
        for own, found in ((name, row), ("UNKNOWN", unknown)):
            if own not in worst or found["margin"] < worst[own]["margin"]:
                worst[own] = found
    return worst


def folded(network: str, seed: int) -> Any:
    """A network filled from a seed, folded."""
    from golden_checkpoints import GOLDEN_NAMES, GoldenCheckpoint, fill
    from tiny import tiny_variant

    from mobileclip_deploy.network.checkpoints.identity import identify
    from mobileclip_deploy.network.checkpoints.loading import assemble
    from mobileclip_deploy.network.folding import fold
    from mobileclip_deploy.network.model.architecture import build_model
    from mobileclip_deploy.network.model.variants import load_variant

    if network in GOLDEN_NAMES:
        golden = GoldenCheckpoint(network)
        golden.__dict__["card"] = {**golden.card, "seed": seed}
        model = assemble(identify(golden.file(), load_variant(golden.variant)))
    else:
        variant = tiny_variant(network)
        model = build_model(variant.for_layout(next(iter(variant.layouts)))).eval()
        model.load_state_dict({key: fill(seed, key, value.shape) for key, value in model.state_dict().items()})
    fold(model)
    return model


def write(model: Any, wanted: list[tuple[Any, str, str]], folder: Path) -> list[str]:
    """The artifacts: of each tower, target and precision."""
    from writing import NOWHERE

    from mobileclip_deploy.network.checkpoints.source import Source
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.jobs import tower_job

    for tower, name, precision in wanted:
        path = artifact_path(model, tower, name, precision, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        get_target(name).write(tower_job(Source(model, NOWHERE), tower, precision), path)
    return []


def artifact_path(model: Any, tower: Any, name: str, precision: str, folder: Path) -> Path:
    """The place of an artifact below a folder."""
    from mobileclip_deploy.targets import get_target

    return folder / name / precision / get_target(name).artifact_name(model.variant, tower, precision)


def answer(model: Any, wanted: list[tuple[Any, str, str]], folder: Path, threads: str) -> list[dict[str, Any]]:
    """How far artifacts are from torch with the constants that are in them, and how far they may be."""
    import copy

    import torch

    from mobileclip_deploy.artifacts.towers.tower import make_tower
    from mobileclip_deploy.parity import Gates, compare
    from mobileclip_deploy.targets import get_target
    from mobileclip_deploy.targets.rules import storage_of
    from mobileclip_deploy.verify.instruments.matching import matched_weights
    from mobileclip_deploy.verify.instruments.stored_constants import StoredConstants
    from mobileclip_deploy.verify.instruments.stored_tower import tower_as_stored

    rows = []
    for tower, name, precision in wanted:
        own, module, fed = get_target(name), make_tower(model, tower), inputs(model, tower)
        artifact = own.open(artifact_path(model, tower, name, precision, folder))
        weights, runner = artifact.weights, artifact.plain_runner()
        assert weights is not None
        assert runner is not None
        found, missing = matched_weights(module, weights)
        assert not missing
        stored = tower_as_stored(module, found, storage_of(own, tower, module, precision)).double()
        constants = StoredConstants(artifact.graph)
        constants.set_queries(stored, module)
        wide = fed.double() if tower == "image" else fed
        with torch.no_grad():
            exact = copy.deepcopy(module).double()(wide).numpy()
            with constants:
                expected = stored(wide).float().numpy()
        for count in map(int, threads.split(",")):
            torch.set_num_threads(count)
            with torch.no_grad():
                floor = compare(exact, module(fed).numpy()).relative
            deviation, bound = compare(expected, runner(fed.numpy())).relative, Gates().exact(floor).value
            rows.append({"case": f"{tower} {name} {precision}", "threads": count, "floor": floor})
            rows[-1] |= {"deviation": deviation, "bound": bound, "margin": bound / deviation}
            rows[-1]["capability"] = torch.backends.cpu.get_cpu_capability()
    return rows


def inputs(model: Any, tower: Any) -> Any:
    """Four pictures, or the prompts and the filled context of the check `graph`."""
    import numpy as np
    import torch
    from tiny import inputs as tiny_inputs

    from mobileclip_deploy.network.inputs import sample_inputs

    if model.variant.name.startswith("tiny"):
        given = tiny_inputs(tower)
        return torch.from_numpy(
            np.rint(given * 255).astype(np.float32) / np.float32(255) if tower == "image" else given
        )
    every = sample_inputs(model).of(tower)
    if tower == "image":
        return torch.from_numpy(every[:4])
    ends = every.argmax(axis=1)
    full = np.resize(every[ends.argmax()][1 : ends.max()], every.shape[1])
    full[0], full[-1] = every[0, 0], every.max()
    padded = every[ends.argmin()].copy()
    padded[ends.min() :] = every.max()
    return torch.from_numpy(np.concatenate([every[:4], every[ends.argmax()][None], full[None], padded[None]]))


if __name__ == "__main__":
    sys.exit(main())
