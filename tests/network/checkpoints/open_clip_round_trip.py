"""Takes a MobileCLIP2-S0 from open_clip's own training program to bundles of every target, and back to open_clip.

    python3.11 -m venv venv
    venv/bin/pip install ".[all]" "open_clip_torch[training]==3.3.*"
    venv/bin/python tests/network/checkpoints/open_clip_round_trip.py FOLDER [OPTIONS]

Weights are drawn as those of tests/golden. Two steps of `open_clip_train.main` on eight of nano's pictures write
epoch_1.pt, in each of `RUNS`. Each file is opened here, and its embeddings are compared with open_clip's. That of the
first run is exported, every gate must pass, and `convert` writes it back: open_clip must load the file to the same
weights. Exits with 1 if anything differs. RESULT keeps the bundles and training runs of earlier calls with the same
versions, so that targets can be run one after the other, with `--run plain`.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

ROOT = Path(__file__).parents[3]
MODEL, VARIANT = "MobileCLIP2-S0", "mobileclip2_s0"
RUNS = {"plain": (1, "fp32"), "bfloat16": (1, "pure_bf16"), "distributed": (2, "fp32")}
"""Number of processes and precision of each training run. Two processes write DDP's prefix `module.`."""
STATUSES = ("passed", "failed", "undecided", "not run")
WORST = 1e-4
"""Largest relative deviation of an embedding from open_clip's, both in float32."""
DISTRIBUTED = """
import sys, torch
class OnCpu(torch.nn.parallel.DistributedDataParallel):  # open_clip names a device, which torch refuses for a CPU
    def __init__(self, module, device_ids=None, **options):
        super().__init__(module, **options)
torch.nn.parallel.DistributedDataParallel = OnCpu
from open_clip_train.main import main
main(sys.argv[1:])
"""


def train(folder: Path, name: str, pictures: int = 4, batch: int = 2) -> Path:
    """Trains one epoch of `pictures` by open_clip's program, from base.safetensors; returns its epoch_1.pt."""
    source = ROOT / "models/nano/evaluation"
    lines = (source / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:pictures]
    with (folder / "pairs.csv").open("w", newline="") as stream:
        rows = [(source / row["image"], row["text"]) for row in map(json.loads, lines)]
        csv.writer(stream).writerows([("filepath", "title"), *rows])
    target = folder / ("epoch_1.pt" if name == "plain" else f"{name}.pt")
    if target.is_file():
        return target
    if not (folder / "base.safetensors").is_file():
        draw(folder)
    processes, precision = RUNS[name]
    module = ["open_clip_train.main"]
    if processes > 1:
        (folder / "on_cpu.py").write_text(DISTRIBUTED)
        module = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "on_cpu.py"]
    words = f"--dataset-type csv --csv-separator , --batch-size {batch} --epochs 1 --workers 0 --lr 1e-6 --warmup 1"
    command = [sys.executable, "-m", *module, "--train-data", "pairs.csv", *words.split()]
    command += [
        "--precision",
        precision,
        "--model",
        MODEL,
        "--pretrained",
        "base.safetensors",
        "--device",
        "cpu",
        "--name",
        name,
    ]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    # In its usual folder: torch's launcher takes `--logs` for an option of its own.
    shutil.move(folder / f"logs/{name}/checkpoints/epoch_1.pt", target)
    shutil.rmtree(folder / f"logs/{name}")
    return target


def draw(folder: Path) -> None:
    """Writes base.safetensors: open_clip's network with golden weights."""
    from golden_checkpoints import fill

    state = open_clip.create_model(MODEL).state_dict()
    save_file({key: fill(0, key, tuple(value.shape)) for key, value in state.items()}, folder / "base.safetensors")


def theirs(path: Path) -> nn.Module:
    """Returns open_clip's network with the weights of a checkpoint, in float32."""
    model: nn.Module = open_clip.create_model(MODEL)
    open_clip.load_checkpoint(model, str(path), weights_only=True)
    return model.float().eval()


@torch.no_grad()
def deviation(path: Path, other: nn.Module) -> float:
    """Returns the largest relative deviation of embeddings here from open_clip's, on three pictures and prompts."""
    from golden_checkpoints import golden_images, relative_errors

    from mobileclip_deploy import load_model

    model = load_model(VARIANT, path, preprocess="card")
    images = golden_images(0, model.variant.preprocess.size)
    tokens = open_clip.get_tokenizer(MODEL)(["a cat", "two dogs in the snow", "a map of the underground of a city"])
    pairs: list[tuple[Tensor, Tensor]] = [
        (model.encode_image(images), other.encode_image(images)),  # type: ignore[operator]
        (model.encode_text(tokens), other.encode_text(tokens)),  # type: ignore[operator]
    ]
    return max(relative_errors(ours, golden) for ours, golden in pairs)


def command(*words: str) -> tuple[int, Any]:
    """Runs a command of the toolkit; returns its exit code and its JSON."""
    done = subprocess.run([sys.executable, "-m", "mobileclip_deploy", *words, "--json"], stdout=subprocess.PIPE)
    return done.returncode, json.loads(done.stdout or "null")


def _count(row: dict[str, Any], status: str) -> int:
    return sum(check["status"] == status and not check.get("left_out") for check in row["parity"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", action="append", help="of `export`; several may be given [default: all]")
    parser.add_argument("--chip", help="of `export`, for Qualcomm's NPU [default: all of its own]")
    parser.add_argument("--run", action="append", choices=RUNS, help="training run [default: all]")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks/results/open_clip_round_trip.json")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / "tests"))
    packages = ("open_clip_torch", "timm", "torch", "mobileclip-deploy")
    record: dict[str, Any] = {"versions": {package: version(package) for package in packages}, "runs": {}}
    wrong = []
    for name in dict.fromkeys(["plain", *(arguments.run or RUNS)]):  # plain: its checkpoint is exported
        path = train(folder, name, pictures=4 * RUNS[name][0])
        names = list(torch.load(path, weights_only=True)["state_dict"])
        record["runs"][name] = {"first_tensor": names[0], "deviation": deviation(path, theirs(path))}
        if not record["runs"][name]["deviation"] <= WORST:
            wrong.append(name)
    epoch, back = folder / "epoch_1.pt", folder / "back.safetensors"
    options = ["--checkpoint", str(epoch), "--variant", VARIANT, "--preprocess", "card", "-o", str(folder / "out")]
    for target in arguments.target or ["all"]:
        options += ["--target", target]
    if arguments.chip:
        options += ["--chip", arguments.chip]
    code, exports = command("export", *options)
    record["export"] = {
        Path(row["bundle"]).name: {status: n for status in STATUSES if (n := _count(row, status))}
        for row in exports or []
    }
    if code not in (0, 3) or not exports:  # 3: a runtime, such as Core ML's, is not on this machine
        wrong.append(f"export ({code})")
    code, _ = command(
        "convert", str(epoch), "--layout", "open_clip", "--preprocess", "card", "-o", str(back), "--force"
    )
    first, last = theirs(epoch).state_dict(), load_file(back)
    if code or first.keys() != last.keys() or not all(torch.equal(first[key], last[key].float()) for key in last):
        wrong.append(f"convert ({code})")
    if arguments.output.is_file():
        earlier = json.loads(arguments.output.read_text())
        if earlier["versions"] == record["versions"] and not earlier["wrong"]:
            record |= {key: earlier[key] | record[key] for key in ("runs", "export")}
    record |= {"back": "the same weights", "wrong": wrong}
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
