"""Measures nano's text tower of nine languages on the held-out pictures, and writes figures.json
and the table of the card.

    python models/nano/languages/measure.py --parallel FOLDER [--weights FILE]

FOLDER is what build_texts.py wrote. All 1,911 pictures of the evaluation set are candidates for every text.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy import load_model
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import BUILTIN, builtin_dataset, read_dataset
from mobileclip_deploy.evaluation.metrics import classify, percentage, ranks_of, retrieval_ranks
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.embedding import embed_classes, embed_prompts, unit
from mobileclip_deploy.pictures.pictures import embed_dataset_images

HELD_OUT_EVERY, HELD_OUT_FIRST = 20, 7  # as in build_texts.py
HERE = Path(__file__).parent
START, END = "<!-- figures -->\n", "<!-- end of figures -->"
TASKS, HELD_OUT = ("top1", "text_to_image_recall@10", "image_to_text_recall@10"), ("held_out", "wordings")
Floats = npt.NDArray[np.float32]
Hits = dict[str, npt.NDArray[np.bool_]]


def hits(tower: Embedder, images: Floats, data: Dataset, trained: npt.NDArray[np.bool_]) -> Hits:
    """Which pictures have their class on top, which trained names find their picture among the first 10, and which
    pictures of trained names find their name so."""
    classes = embed_classes(tower, data.classes, data.templates)
    ranks, _ = classify(images, classes, np.asarray(data.labels))
    to_text, to_image = retrieval_ranks(images, embed_prompts(tower, data.captions), np.asarray(data.caption_images))
    return {
        "top1": ranks < 1,
        "text_to_image_recall@10": to_image[trained] < 10,
        "image_to_text_recall@10": to_text[trained] < 10,
    }


def figure(found: npt.NDArray[np.bool_]) -> dict[str, float]:
    """A share in percent with its 95% interval."""
    return {name: round(float(value), 2) for name, value in percentage(found).model_dump().items()}


def held_out(tower: Embedder, images: Floats, texts: Sequence[str], right: Sequence[int]) -> dict[str, float]:
    """Recall@10 of texts that were not learned, each with the number of its picture."""
    ranks = ranks_of(embed_prompts(tower, texts) @ images.T, np.asarray(right))
    return figure(ranks < 10) | {"texts": len(texts)}


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table that build_texts.py wrote."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def write_table(card: Path, result: dict[str, Any]) -> None:
    """The figures as the table of the card, between its two marks."""
    lines = [
        "| | top-1 | text to image @10 | image to text @10 | least share of nano's English | held-out emoji @10 "
        "| held-out wordings @10 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for language, row in result.items():
        cells = [f"{row[task]['value']:.1f} ({row[task]['low']:.1f} to {row[task]['high']:.1f})" for task in TASKS]
        cells.append(f"{row['least_share_of_english']:.1f}%" if "least_share_of_english" in row else "")
        cells += [f"{row[name]['value']:.1f} of {row[name]['texts']}" if name in row else "" for name in HELD_OUT]
        named = {"teacher": "nano itself, English", "en": "English, this tower"}.get(language, language)
        lines.append(f"| {named} | {' | '.join(cells)} |")
    before, _, rest = card.read_text(encoding="utf-8").partition(START)
    card.write_text(before + START + "\n".join(lines) + "\n" + END + rest.partition(END)[2], encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parallel", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=HERE / "weights.safetensors")
    parser.add_argument("--output", type=Path, default=HERE / "figures.json")
    arguments = parser.parse_args()
    english = builtin_dataset()
    trained = np.arange(len(english.images)) % HELD_OUT_EVERY != HELD_OUT_FIRST
    tower = model_embedder(load_model(checkpoint=arguments.weights))
    teacher = model_embedder(load_model(checkpoint=builtin_checkpoint()))
    images = unit(embed_dataset_images(teacher, english.images, english.rows)[0])  # the towers of both are the same
    known = hits(teacher, images, english, trained)
    result: dict[str, dict[str, Any]] = {"teacher": {task: figure(one) for task, one in known.items()}}
    tables = {name: read_rows(arguments.parallel / f"{name}.tsv") for name in HELD_OUT}
    described = json.loads((HERE.parent / "evaluation" / "dataset.json").read_text(encoding="utf-8"))
    for language in ("en", *described["languages"]):
        data = english if language == "en" else read_dataset(Path(BUILTIN), language=language)
        found = hits(tower, images, data, trained)
        row: dict[str, Any] = {task: figure(one) for task, one in found.items()}
        row["least_share_of_english"] = round(
            min(float(100 * found[task].mean() / known[task].mean()) for task in found), 1
        )
        for name, rows in tables.items():
            asked = [
                (one[language], english.captions.index(one["en"])) for one in rows if language != "en" and one[language]
            ]
            if asked:
                row[name] = held_out(tower, images, [text for text, _ in asked], [number for _, number in asked])
        result[language] = row
        print(language, json.dumps(row), flush=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_table(HERE / "README.md", result)


if __name__ == "__main__":
    main()
