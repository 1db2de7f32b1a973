"""Builds nano's training data (64 px emoji in openly licensed styles, with captions) and its held-out evaluation set.

One command does all of it, from npm packages whose versions are pinned here:

    python models/nano/build_data.py --work BUILD_FOLDER [--pairs FOLDER] [--evaluation models/nano/evaluation]
        [--calibration models/nano/calibration]

needs `npm` on the path and the PyPI packages numpy, pillow and resvg-py. Training data is not committed; the
evaluation set is, and a small part of the training data that rounding is learned on.
"""

import argparse
import io
import json
import re
import tarfile
import unicodedata
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from styles import SOURCES, fetch, fit, on_white, plain, read_json, source_images

T = TypeVar("T")
HELD_OUT = "emoji-datasource-twitter@16.0.0"
NAMES = "emojibase-data@17.0.0"
STYLES = frozenset(one.style for one in SOURCES)
COPY_LIMIT = 6.0
"""Root mean square difference, in 8-bit levels, under which a training image counts as a copy of a held-out one."""


CALIBRATION_STYLES = ("noto", "noto-v1", "fxemoji", "fluent", "fluent-flat")
"""Styles of the calibration set. Their licences are Apache-2.0 and MIT."""
CALIBRATION_IMAGES, CALIBRATION_CAPTIONS = 384, 1024


@dataclass(frozen=True)
class Concept:
    """One emoji without skin tone: what it is called, in the words that captions are made of."""

    hexcode: str
    label: str
    unicode_name: str
    group: str
    subgroup: str
    tags: tuple[str, ...]


def slug(text: str) -> str:
    """Lower-case ASCII words joined by hyphens, as icon sets name their icons."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.replace("&", " and ").replace("'", "")).strip("-")


def read_concepts(names: tarfile.TarFile, held_out: tarfile.TarFile) -> list[Concept]:
    """The concepts that the held-out style draws (1,911), in Unicode's order."""
    drawn = {plain(row["unified"]): row for row in read_json(held_out, "emoji.json") if row["has_img_twitter"]}
    messages = read_json(names, "en/messages.json")
    groups = {row["order"]: row["message"] for row in messages["groups"]}
    subgroups = {row["order"]: row["message"] for row in messages["subgroups"]}
    rows = [row for row in read_json(names, "en/data.json") if plain(row["hexcode"]) in drawn]
    rows.sort(key=lambda row: row["order"])
    return [
        Concept(
            hexcode=plain(row["hexcode"]),
            label=row["label"],
            unicode_name=(drawn[plain(row["hexcode"])]["name"] or row["label"]).lower(),
            group=groups[row["group"]],
            subgroup=subgroups[row["subgroup"]],
            tags=tuple(row.get("tags", ())),
        )
        for row in rows
    ]


def icon_names(concepts: list[Concept], names: tarfile.TarFile) -> dict[str, str]:
    """Maps the names that icon sets use (squeezed slugs) to hexcodes; a concept's label wins over short codes."""
    known = {concept.hexcode for concept in concepts}
    found: dict[str, str] = {}

    def add(name: str, hexcode: str) -> None:
        if hexcode in known:
            found.setdefault(slug(name).replace("-", ""), hexcode)

    for concept in concepts:
        add(concept.label, concept.hexcode)
        if concept.label.startswith("flag: "):
            add("flag for " + concept.label[6:], concept.hexcode)
    for concept in concepts:
        add(concept.unicode_name, concept.hexcode)
    for preset in ("cldr", "joypixels", "github", "iamcal", "emojibase"):
        for hexcode, codes in read_json(names, f"en/shortcodes/{preset}.json").items():
            for code in [codes] if isinstance(codes, str) else codes:
                add(code.replace("_", " "), plain(hexcode))
    return found


def held_out_files(held_out: tarfile.TarFile) -> dict[str, tuple[str, bytes]]:
    """The held-out style's files: {hexcode: (file name, PNG bytes)}."""
    prefix = "package/img/twitter/64/"
    files = [name for name in held_out.getnames() if name.startswith(prefix)]
    return {
        plain(path[len(prefix) : -4]): (path[len(prefix) :], held_out.extractfile(path).read())  # type: ignore[union-attr]
        for path in sorted(files)
    }


def training_images(
    concepts: list[Concept],
    names: tarfile.TarFile,
    held_out: tarfile.TarFile,
    work: Path,
    styles: Container[str] = STYLES,
) -> Iterator[tuple[Concept, str, np.ndarray]]:
    """Yields (concept, style, pixels on white [SIZE, SIZE, 3]) of these styles, without copies of held-out images."""
    index = {concept.hexcode: number for number, concept in enumerate(concepts)}
    files = held_out_files(held_out)
    targets = [on_white(fit(Image.open(io.BytesIO(files[concept.hexcode][1])), 1.0)) for concept in concepts]
    lookup = icon_names(concepts, names)
    for source in (one for one in SOURCES if one.style in styles):
        copies, covered = 0, []
        for hexcode, rgba in source_images(source, fetch(source.package, work), lookup):
            # A flag without its colours is a rectangle: nothing a caption could be learnt from.
            if hexcode not in index or (concepts[index[hexcode]].group == "flags" and not source.coloured):
                continue
            pixels = on_white(rgba)
            if np.sqrt(np.mean((pixels - targets[index[hexcode]]) ** 2)) < COPY_LIMIT:
                copies += 1
                continue
            covered.append(hexcode)
            yield concepts[index[hexcode]], source.style, pixels
        concepts_drawn = len(set(covered))
        print(
            f"{source.style}: {len(covered)} images of {concepts_drawn} concepts, {copies} too close to held-out ones"
        )


def build_pairs(folder: Path, images: Iterator[tuple[Concept, str, np.ndarray]]) -> None:
    """Writes the training images as PNGs, and pairs.jsonl: what `mobileclip-deploy train`, `reinforce` and `recover`
    read. The synthetic captions are made of names, tags and category."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (concept, style, pixels) in enumerate(images):
        name = f"images/{number:05d}-{style}.png"
        Image.fromarray(pixels.round().astype(np.uint8)).save(folder / name)
        captions = made_captions(concept)
        lines.append(json.dumps({"image": name, "text": concept.label, "captions": captions}, ensure_ascii=False))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def made_captions(concept: Concept) -> list[str]:
    """The synthetic captions of a concept: of its names, tags and category."""
    made = [f"an emoji of {concept.label}", concept.unicode_name, ", ".join(concept.tags[:3]), *concept.tags[:4]]
    made += [class_name(concept)]
    return [text for text in dict.fromkeys(made) if text and text != concept.label]


def build_calibration(
    folder: Path, concepts: list[Concept], names: tarfile.TarFile, held_out: tarfile.TarFile, work: Path
) -> None:
    """Writes images/ and prompts.txt: training images of some styles and training captions, both spread evenly, without
    the captions that the evaluation set asks for."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    found = training_images(concepts, names, held_out, work, CALIBRATION_STYLES)
    drawn: dict[bytes, tuple[str, np.ndarray]] = {}  # each drawing once, whatever a style calls it
    for concept, style, pixels in found:
        levels = pixels.round().astype(np.uint8)
        drawn.setdefault(levels.tobytes(), (f"{concept.hexcode.lower()}-{style}", levels))
    for number, (name, levels) in enumerate(evenly([*drawn.values()], CALIBRATION_IMAGES)):
        picture = Image.fromarray(levels)
        picture.save(folder / "images" / f"{number:03d}-{name}.png", optimize=True)
    asked = {f"{start}{concept.label}" for concept in concepts for start in ("", "an emoji of ")}
    asked |= {f"{start}{class_name(concept)}" for concept in concepts for start in ("", "an emoji of ")}
    captions = dict.fromkeys(text for concept in concepts for text in made_captions(concept) if text not in asked)
    chosen = evenly([*captions], CALIBRATION_CAPTIONS)
    (folder / "prompts.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")


def evenly(rows: list[T], count: int) -> list[T]:
    """So many of the rows, spread evenly."""
    return [rows[number * len(rows) // count] for number in range(count)]


def class_name(concept: Concept) -> str:
    """The class of the zero-shot task: the concept's Unicode subgroup, as words."""
    return concept.subgroup.replace("-", " ")


def smallest_png(content: bytes) -> bytes:
    """The same pixels in fewer bytes: re-encoded with zlib's best setting, kept as it came when that is smaller."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, "PNG", optimize=True)
    return min(content, buffer.getvalue(), key=len)


def build_evaluation(folder: Path, concepts: list[Concept], held_out: tarfile.TarFile) -> None:
    """Writes images/, pairs.jsonl, classes.txt and dataset.json: the held-out style, one caption a concept."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    files = held_out_files(held_out)
    lines = []
    for concept in concepts:
        name, content = files[concept.hexcode]
        (folder / "images" / name).write_bytes(smallest_png(content))
        row = {
            "image": f"images/{name}",
            "text": concept.label,
            "label": class_name(concept),
            "group": concept.group,
            "tags": list(concept.tags),
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    classes = sorted({class_name(concept) for concept in concepts})
    (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    dataset = {
        "name": "twemoji-1911",
        "pairs": "pairs.jsonl",
        "classes": "classes.txt",
        "template": "an emoji of {}",
        "source": HELD_OUT,
        "licence": "CC-BY-4.0",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the packages' tarballs")
    parser.add_argument("--evaluation", type=Path, help="write the held-out evaluation set here")
    parser.add_argument("--calibration", type=Path, help="write the calibration set here")
    parser.add_argument("--pairs", type=Path, help="write the training images and captions here")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names, held_out = fetch(NAMES, arguments.work), fetch(HELD_OUT, arguments.work)
    concepts = read_concepts(names, held_out)
    print(f"{len(concepts)} concepts")
    if arguments.evaluation:
        build_evaluation(arguments.evaluation, concepts, held_out)
    if arguments.calibration:
        build_calibration(arguments.calibration, concepts, names, held_out, arguments.work)
    if arguments.pairs:
        build_pairs(arguments.pairs, training_images(concepts, names, held_out, arguments.work))


if __name__ == "__main__":
    main()
