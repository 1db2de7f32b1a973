"""A few pairs of the built-in evaluation set as a dataset of one's own, for tests of what trains on pairs."""

import json
import shutil
from pathlib import Path

from PIL import Image, ImageOps

from mobileclip_deploy.network.model.variants import models_dir


def write_pairs(folder: Path, count: int = 24, *, captions: bool = True) -> Path:
    """A dataset of `count` images with their names and, if wanted, two synthetic captions, every other one with one."""
    source = models_dir() / "nano" / "evaluation"
    rows = [json.loads(line) for line in (source / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    folder.mkdir(parents=True)
    lines = []
    for number, row in enumerate(rows[200 : 200 + 7 * count : 7]):
        name = Path(row["image"]).name
        shutil.copy(source / row["image"], folder / name)
        made = [f"an emoji of {row['text']}", ", ".join(row["tags"][:2])][: 1 + number % 2]
        lines.append(json.dumps({"image": name} | ({"text": row["text"], "captions": made} if captions else {})))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"name": "mine", "pairs": "pairs.jsonl"}))
    return folder


def invert(folder: Path, *numbers: int) -> Path:
    """The pictures of these pairs, or of all, in negative: other contents under the same names and captions."""
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    for number in numbers or range(len(rows)):
        file = folder / rows[number]["image"]
        with Image.open(file) as image:
            ImageOps.invert(image.convert("RGB")).save(file)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
