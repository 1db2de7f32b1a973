"""Measures a fine-tune of nano to a drawing style that it has not seen, and the mix with the original that keeps the
old one.

    python benchmarks/finetune.py --work FOLDER [--seeds 3] [--processes 1] [--settings '{"steps": 20}'] [-o RESULT]
        [--replay]

The new style is Noto Emoji in one colour, a font (npm's @expo-google-fonts/noto-emoji, OFL-1.1): 1,384 drawings, of
which half train, a sixth is held out for the choice of the ratio, and a third tests. The old data
are nano's evaluation set (Twemoji), a third to choose the ratio, the rest to test. With --replay the fine-tune's pairs
contain as many of nano's own training drawings (Fluent Emoji, MIT) as new ones; the plain fine-tune's do not. Needs
`npm` on the path. Finished commands and seeds stay in FOLDER: a run that was stopped goes on. Other settings need
another FOLDER.
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import ROOT, Figures, markdown
from PIL import Image, ImageDraw, ImageFont

from mobileclip_deploy import load_model
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder

KEPT = Figures("finetune", "figures/training.md")
FONT = "@expo-google-fonts/noto-emoji@0.4.7"
FACE = "package/400Regular/NotoEmoji_400Regular.ttf"
INK, FONT_SIZE = 34, 48
REPLAYED = "fluent-3d"
"""The style of nano's training that is replayed: drawings unlike those of the new style."""
NANO = ROOT / "models/nano"
SETTINGS = {"version": 1, "variant": "nano", "steps": 40, "batch": 32, "learning_rate": 8e-4, "average": 0.9}
"""Fields of both trainings: a short one, for few drawings of 64 pixels."""


def draw(folder: Path, work: Path) -> list[dict[str, Any]]:
    """Draws each concept of one character that is no flag; returns its rows."""
    sys.path.insert(0, str(NANO))
    from build_data import HELD_OUT, NAMES, made_captions, read_concepts
    from styles import SIZE, fetch

    concepts = read_concepts(fetch(NAMES, work), fetch(HELD_OUT, work))
    content = fetch(FONT, work).extractfile(FACE)
    assert content is not None
    font = ImageFont.truetype(io.BytesIO(content.read()), FONT_SIZE)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for concept in (one for one in concepts if "-" not in one.hexcode and one.group != "flags"):
        picture = Image.new("L", (SIZE, SIZE), 255)
        character = chr(int(concept.hexcode, 16))
        ImageDraw.Draw(picture).text((SIZE // 2, SIZE // 2), character, font=font, fill=INK, anchor="mm")
        if not font.getmask(character).getbbox():
            continue
        name = f"images/{concept.hexcode.lower()}.png"
        picture.convert("RGB").save(folder / name)
        rows.append({"image": name, "text": concept.label, "captions": made_captions(concept)})
    return rows


def draw_replay(folder: Path, work: Path) -> list[dict[str, Any]]:
    """Draws a style of nano's training; returns its rows."""
    sys.path.insert(0, str(NANO))
    from build_data import HELD_OUT, NAMES, made_captions, read_concepts, training_images
    from styles import fetch

    names, held_out = fetch(NAMES, work), fetch(HELD_OUT, work)
    drawn = training_images(read_concepts(names, held_out), names, held_out, work, (REPLAYED,))
    (folder / "replay").mkdir(exist_ok=True)
    rows = []
    for concept, _, pixels in drawn:
        name = f"replay/{concept.hexcode.lower()}.png"
        Image.fromarray(pixels.round().astype(np.uint8)).save(folder / name)
        rows.append({"image": name, "text": concept.label, "captions": made_captions(concept)})
    return rows


def write_part(folder: Path, images: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row | {"image": str(images / row["image"])}) for row in rows]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"name": folder.name, "pairs": "pairs.jsonl"}))
    return folder


def command(record: Path, *words: str) -> tuple[str, float]:
    """Runs a command of the toolkit, unless `record` has its result; returns its stdout and its CPU minutes."""
    if record.is_file():
        stdout, minutes = json.loads(record.read_text())
        return stdout, minutes
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "mobileclip_deploy", *words], check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
    record.write_text(json.dumps([done.stdout, minutes]))
    return done.stdout, minutes


def hits(weights: Path, dataset: Dataset) -> np.ndarray:
    model = load_model("nano", weights)
    fold(model)
    result = measure(model_embedder(model), dataset, ("retrieval",)).hits
    return np.concatenate([result[f"{way}_recall@1"] for way in ("image_to_text", "text_to_image")])


def run_seed(
    seed: int,
    rows: list[dict[str, Any]],
    replayed: list[dict[str, Any]],
    images: Path,
    settings: dict[str, Any],
) -> dict[str, Any]:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands below
    folder = images / f"seed{seed}"
    if (folder / "report.json").is_file():
        known: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return known
    rows = random.Random(seed).sample(rows, len(rows))
    half, sixth = len(rows) // 2, len(rows) // 6
    train = {"plain": write_part(folder / "train", images, rows[:half])}
    chosen = random.Random(seed).sample(replayed, min(half, len(replayed)))
    train["finetune"] = write_part(folder / "both", images, rows[:half] + chosen)
    bare = [{key: value for key, value in row.items() if key != "captions"} for row in rows[half:]]
    held, test = write_part(folder / "held", images, bare[:sixth]), write_part(folder / "test", images, bare[sixth:])
    old = [json.loads(line) for line in (NANO / "evaluation/pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    keep = write_part(folder / "keep", NANO / "evaluation", old[::3])
    old_test = write_part(folder / "old", NANO / "evaluation", [row for number, row in enumerate(old) if number % 3])
    original, minutes = NANO / "weights.safetensors", {}
    files = {"original": original}
    for name in ("plain", "finetune"):
        recipe = settings | {"start": str(original), "data": str(train[name]), "evaluation": str(held), "seed": seed}
        # One measurement, so that the last weights are written: earlier ones are better alone, and worse in a mix.
        recipe |= {"evaluate_every": settings["steps"]}
        if name == "finetune":
            recipe |= {"preset": "finetune"}
        else:  # the same steps at one rate, with the statistics of the new pictures
            recipe |= {"distillation": 0, "layer_decay": None}
        (folder / f"{name}.yaml").write_text(json.dumps(recipe))  # YAML reads JSON
        record = folder / f"{name}.json"
        if not record.is_file():  # a training that goes on would count some of its minutes
            shutil.rmtree(folder / name, ignore_errors=True)
        words = ["train", str(folder / f"{name}.yaml"), "-o", str(folder / name), "--quiet"]
        _, minutes[name] = command(record, *words)
        files[name] = folder / name / "weights.safetensors"
    mixed = folder / "mixed.safetensors"
    words = ["convert", str(files["finetune"]), "--mix", str(original), "--keep", str(keep), "--dataset", str(held)]
    stdout, minutes["mix"] = command(folder / "mix.json", *words, "-o", str(mixed), "--force", "--json")
    files["mixed"] = mixed
    parts = {"new": read_dataset(test), "old": read_dataset(old_test)}
    found = {name: {part: hits(path, data) for part, data in parts.items()} for name, path in files.items()}
    report: dict[str, Any] = {"seed": seed, "ratio": json.loads(stdout)["ratio"], "cpu_minutes": minutes}
    for name, of_parts in found.items():
        report[name] = {part: 100 * float(outcome.mean()) for part, outcome in of_parts.items()}
        report[name] |= {
            f"{part}_against_original": paired_difference(outcome, found["original"][part]).model_dump()
            for part, outcome in of_parts.items()
            if name != "original"
        }
    (folder / "report.json").write_text(json.dumps(report))
    return report


def table(record: dict[str, Any]) -> str:
    """Returns the part of the page: the settings, then a row for each seed and for the mean."""
    seeds = record["seeds"]
    parts = [(name, part) for name in ("plain", "finetune", "mixed") for part in ("new", "old")]
    rows = []
    for report in seeds:
        changes = [report[name][f"{part}_against_original"] for name, part in parts]
        cells = [f"{change['value']:+.1f} ({change['low']:+.1f} to {change['high']:+.1f})" for change in changes]
        minutes = report["cpu_minutes"]["finetune"] + report["cpu_minutes"]["mix"]
        rows.append([str(report["seed"]), *cells, f"{report['ratio']:g}", f"{minutes:.1f}"])
    means = [
        sum(report[name][f"{part}_against_original"]["value"] for report in seeds) / len(seeds) for name, part in parts
    ]
    if len(seeds) > 1:
        rows.append(["mean", *(f"{mean:+.1f}" for mean in means), "", ""])
    before = ", ".join(
        f"{sum(report['original'][part] for report in seeds) / len(seeds):.1f}% on the {part} pictures"
        for part in ("new", "old")
    )
    heads = ["seed", *(f"{name}, {part}" for name, part in parts), ">ratio", ">CPU minutes"]
    replay = " and as many drawings of nano's own training" if record["replayed"] else ""
    return "\n".join(
        [
            f"nano, fine-tuned to {record['pictures'] // 2} drawings of a font{replay}; settings "
            f"`{json.dumps(record['settings'])}`. Recall@1, mean of both directions, in points against the original "
            f"({before}), with 95% intervals. CPU minutes of the fine-tune and the mix:",
            "",
            *markdown(heads, rows),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="seeds at a time")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON of fields that replace the recipe's")
    parser.add_argument("--replay", action="store_true", help="add drawings of nano's training to the fine-tune's")
    parser.add_argument("-o", "--output", type=Path, help="write here, and not to the results and the page")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    folder = arguments.work.absolute()
    rows = draw(folder, folder)
    settings = SETTINGS | arguments.settings
    replayed = draw_replay(folder, folder) if arguments.replay else []
    run = functools.partial(run_seed, rows=rows, replayed=replayed, images=folder, settings=settings)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        results = pool.map(run, range(arguments.seeds), 1)
    record = {"pictures": len(rows), "settings": settings, "replayed": arguments.replay, "seeds": results}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(record, indent=2) + "\n")
        return
    KEPT.write(record)
    KEPT.show(table(record))


if __name__ == "__main__":
    main()
