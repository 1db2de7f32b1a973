"""Builds nano's training data (64 px emoji in openly licensed styles, with captions) and its held-out evaluation set.

One command does all of it, from npm packages whose versions are pinned here:

    python models/nano/build_data.py --work BUILD_FOLDER [--pairs FOLDER] [--evaluation models/nano/evaluation]

needs `npm` on the path and the PyPI packages numpy, pillow and resvg-py. Training data is not committed; the
evaluation set is.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

SIZE = 64
HELD_OUT = "emoji-datasource-twitter@16.0.0"
NAMES = "emojibase-data@17.0.0"
COPY_LIMIT = 6.0
"""Root mean square difference, in 8-bit levels, under which a training image counts as a copy of a held-out one."""


@dataclass(frozen=True)
class Source:
    """One drawing style: which npm package holds it, how its files are laid out, and who it belongs to."""

    style: str
    package: str
    layout: str
    folder: str = ""
    zoom: float = 1.0
    licence: str = ""
    coloured: bool = True


SOURCES = (
    Source("noto", "emoji-datasource-google@16.0.0", "hexcode", "img/google/64", 1.0, "Apache-2.0"),
    Source("openmoji", "openmoji@17.0.0", "hexcode", "color/svg", 1.15, "CC-BY-SA-4.0"),
    Source("openmoji-black", "openmoji@17.0.0", "hexcode", "black/svg", 1.15, "CC-BY-SA-4.0", coloured=False),
    Source("fluent-3d", "@lobehub/fluent-emoji-3d@1.1.0", "hexcode", "assets", 1.0, "MIT"),
    Source("fluent", "@iconify-json/fluent-emoji@1.2.7", "iconify", "", 1.0, "MIT"),
    Source("fluent-flat", "@iconify-json/fluent-emoji-flat@1.2.6", "iconify", "", 1.0, "MIT"),
    Source("fluent-mono", "@iconify-json/fluent-emoji-high-contrast@1.2.6", "iconify", "", 1.0, "MIT", coloured=False),
    Source("emojione", "@iconify-json/emojione@1.2.3", "iconify", "", 1.0, "CC-BY-4.0"),
    Source("emojione-v1", "@iconify-json/emojione-v1@1.2.3", "iconify", "", 1.0, "CC-BY-SA-4.0"),
    Source("noto-v1", "@iconify-json/noto-v1@1.2.5", "iconify", "", 1.0, "Apache-2.0"),
    Source("fxemoji", "@iconify-json/fxemoji@1.2.2", "iconify", "", 1.0, "Apache-2.0"),
    Source("streamline", "@iconify-json/streamline-emojis@1.2.4", "iconify", "", 1.0, "CC-BY-4.0"),
    Source("flag-icons", "flag-icons@7.5.0", "flags", "flags/4x3", 1.0, "MIT"),
)


@dataclass(frozen=True)
class Concept:
    """One emoji without skin tone: what it is called, in the words that captions are made of."""

    hexcode: str
    label: str
    unicode_name: str
    group: str
    subgroup: str
    tags: tuple[str, ...]


def fetch(package: str, work: Path) -> tarfile.TarFile:
    """Opens the tarball of NAME@VERSION, downloading it into `work` with `npm pack` when it is not there yet."""
    name, version = package.rsplit("@", 1)
    tarball = work / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not tarball.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=work, check=True, stdout=subprocess.DEVNULL)
    return tarfile.open(tarball)


def read_json(package: tarfile.TarFile, path: str) -> Any:
    """One JSON file of a package."""
    member = package.extractfile(f"package/{path}")
    assert member is not None, f"{path} is not a file"
    return json.load(member)


def plain(hexcode: str) -> str:
    """`1F600-FE0F` or `1f600` as the identity of a concept: upper case, without variation selectors."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


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


def iconify_svgs(package: tarfile.TarFile, names: dict[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Yields (hexcode, svg, mirrored) for every icon and alias named as a concept; a trailing number is a variant."""
    icons = read_json(package, "icons.json")
    aliases = icons.get("aliases", {})
    for name in sorted([*icons["icons"], *aliases]):
        hexcode = names.get(name.replace("-", "")) or names.get(re.sub(r"-?\d+$", "", name).replace("-", ""))
        alias = aliases.get(name, {})
        icon = icons["icons"].get(alias.get("parent", name))
        if hexcode is None or icon is None or set(alias) - {"parent", "hFlip"}:
            continue
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        yield (
            hexcode,
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#222" '
                f'viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
            ),
            bool(alias.get("hFlip")),
        )


def fit(image: Image.Image, zoom: float) -> np.ndarray:
    """Scales an image's longer side to SIZE * zoom, centred on a transparent square; uint8 [SIZE, SIZE, 4]."""
    image = image.convert("RGBA")
    scale = SIZE * zoom / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIZE, SIZE))
    square.paste(image, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2))
    return np.asarray(square)


def rasterise(svg: str, zoom: float) -> np.ndarray:
    """Draws an SVG at its final size; uint8 [SIZE, SIZE, 4]."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=round(SIZE * zoom), skip_system_fonts=True)
    return fit(Image.open(io.BytesIO(bytes(png))), zoom)


def flag_hexcode(code: str) -> str:
    """`de` -> `1F1E9-1F1EA`; `gb-eng` -> the tag sequence of England's flag."""
    if "-" not in code:
        return "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):X}" for letter in code)
    return "-".join(["1F3F4", *(f"E00{ord(letter):X}" for letter in code.replace("-", "")), "E007F"])


def folder_images(source: Source, package: tarfile.TarFile) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (hexcode, pixels) for packages that hold one file an emoji."""
    prefix = f"package/{source.folder}/"
    for path in sorted(name for name in package.getnames() if name.startswith(prefix)):
        stem, suffix = path[len(prefix) :].rsplit(".", 1)
        hexcode = flag_hexcode(stem) if source.layout == "flags" else plain(stem)
        content = package.extractfile(path).read()  # type: ignore[union-attr]
        if suffix == "svg":
            yield hexcode, rasterise(content.decode(), source.zoom)
        else:
            yield hexcode, fit(Image.open(io.BytesIO(content)), source.zoom)


def source_images(source: Source, package: tarfile.TarFile, names: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (hexcode, RGBA pixels uint8 [SIZE, SIZE, 4]) for one style."""
    if source.layout != "iconify":
        yield from folder_images(source, package)
        return
    for hexcode, svg, mirrored in iconify_svgs(package, names):
        pixels = rasterise(svg, source.zoom)
        yield hexcode, pixels[:, ::-1] if mirrored else pixels


def on_white(pixels: np.ndarray) -> np.ndarray:
    """RGBA uint8 [..., 4] composited on white; float32 [..., 3] in [0, 255]."""
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)


def held_out_files(held_out: tarfile.TarFile) -> dict[str, tuple[str, bytes]]:
    """The held-out style's files: {hexcode: (file name, PNG bytes)}."""
    prefix = "package/img/twitter/64/"
    files = [name for name in held_out.getnames() if name.startswith(prefix)]
    return {
        plain(path[len(prefix) : -4]): (path[len(prefix) :], held_out.extractfile(path).read())  # type: ignore[union-attr]
        for path in sorted(files)
    }


def training_images(
    concepts: list[Concept], names: tarfile.TarFile, held_out: tarfile.TarFile, work: Path
) -> Iterator[tuple[Concept, str, np.ndarray]]:
    """Yields (concept, style, pixels on white [SIZE, SIZE, 3]) of all styles, without copies of held-out images."""
    index = {concept.hexcode: number for number, concept in enumerate(concepts)}
    files = held_out_files(held_out)
    targets = [on_white(fit(Image.open(io.BytesIO(files[concept.hexcode][1])), 1.0)) for concept in concepts]
    lookup = icon_names(concepts, names)
    for source in SOURCES:
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
        made = [f"an emoji of {concept.label}", concept.unicode_name, ", ".join(concept.tags[:3]), *concept.tags[:4]]
        made += [class_name(concept)]
        captions = [text for text in dict.fromkeys(made) if text and text != concept.label]
        lines.append(json.dumps({"image": name, "text": concept.label, "captions": captions}, ensure_ascii=False))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


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
    parser.add_argument("--pairs", type=Path, help="write the training images and captions here")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names, held_out = fetch(NAMES, arguments.work), fetch(HELD_OUT, arguments.work)
    concepts = read_concepts(names, held_out)
    print(f"{len(concepts)} concepts")
    if arguments.evaluation:
        build_evaluation(arguments.evaluation, concepts, held_out)
    if arguments.pairs:
        build_pairs(arguments.pairs, training_images(concepts, names, held_out, arguments.work))


if __name__ == "__main__":
    main()
