"""Image-text pairs on disk: a described folder, a manifest, or a plain folder of images without captions."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from mobileclip_deploy.base.files import read_json
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.errors import InvalidInput, reraising
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.tables import read_table
from mobileclip_deploy.network.model.image_files import image_files, walk_images
from mobileclip_deploy.pictures.image_sources import ImageSource
from mobileclip_deploy.pictures.text_files import BadRows, read_text

PAIRS_BYTES = 2 << 30


class Pair(BaseModel, frozen=True, extra="ignore"):
    """One image, its true caption, and captions that were generated for it. Other fields of a row are ignored.

    `image` is relative to the folder of the pairs. Without `text` there are no `captions` either.
    """

    image: str
    text: str | None = None
    captions: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The true caption, if there is one, then the synthetic ones."""
        return () if self.text is None else (self.text, *self.captions)


@dataclass(frozen=True)
class Pairs:
    """Pairs and the folder that their images are relative to. Either all pairs have a true caption or none has."""

    folder: Path
    rows: tuple[Pair, ...]

    @property
    def captioned(self) -> bool:
        """True if there are captions."""
        return self.rows[0].text is not None

    def as_lines(self) -> str:
        """Returns the pairs as JSON lines, as a reinforced dataset stores them."""
        return "".join(row.model_dump_json() + "\n" for row in self.rows)


def check_pairs(source: Path) -> None:
    """Refuses a path that cannot have pairs; reads nothing.

    Raises:
        InvalidInput: there is neither a folder nor a file, or a folder without images.
    """
    if not source.is_file() and not source.is_dir():
        raise InvalidInput(f"no folder or manifest of images at {source}")
    if source.is_dir() and not any(source.glob("*.json*")) and next(walk_images(source), None) is None:
        raise _nothing_in(source)


def read_pairs(source: Path) -> Pairs:
    """Reads the pairs of a folder or of a manifest.

    Args:
        source: a folder with a dataset.json (docs/evaluation.md) or a pairs.jsonl; a .jsonl manifest of `image`, `text`
            and `captions` with images relative to it; a .csv or .tsv table of `image` and `text`; or a folder of
            images, which then have no captions.

    Raises:
        InvalidInput: nothing of that kind, a row that cannot be used (named), an image that is missing, or captions for
            some rows only.
    """
    check_pairs(source)
    if source.suffix.lower() in (".csv", ".tsv"):
        rows = read_table(source, source.parent, BadRows(skip=False))
        pairs = [Pair(image=_relative(row.image, source.parent), text=next(iter(row.texts), None)) for row in rows]
        # The header is line 1.
        return parse_pairs("\n" + "".join(f"{pair.model_dump_json()}\n" for pair in pairs), source.parent, str(source))
    if source.is_file():
        return parse_pairs(read_text(source, PAIRS_BYTES), source.parent, str(source))
    description, manifest = source / "dataset.json", source / "pairs.jsonl"
    if description.is_file():
        with reraising(f"{description} is not a JSON object", OSError, ValueError, AttributeError):
            manifest = source / str(read_json(description).get("pairs", manifest.name))
    if description.is_file() or os.path.isfile(manifest):
        return parse_pairs(read_text(manifest, PAIRS_BYTES), source, str(manifest))
    files = image_files(source)
    if not files:
        raise _nothing_in(source)
    return Pairs(source, tuple(Pair(image=file.relative_to(source).as_posix()) for file in files))


def pairs_of(dataset: Dataset, source: Path, template: str) -> Pairs:
    """Returns the pairs of a dataset that was read from `source`: its captions, or its classes in the template.

    Raises:
        InvalidInput: its images are inside of archives.
    """
    folder = source if source.is_dir() else source.parent
    texts: list[list[str]] = [[] for _ in dataset.images]
    for caption, index in zip(dataset.captions, dataset.caption_images, strict=True):
        texts[index].append(caption)
    template = dataset.templates[0] if dataset.templates else template
    rows = []
    for number, image in enumerate(dataset.images):
        if not isinstance(image, Path):
            raise InvalidInput(f"{image} is inside of an archive, which training cannot read; unpack it")
        listed = texts[number] or [template.replace("{}", dataset.classes[dataset.labels[number]])]
        rows.append(Pair(image=_relative(image, folder), text=listed[0], captions=tuple(listed[1:])))
    return Pairs(folder, tuple(rows))


def _relative(image: ImageSource, folder: Path) -> str:
    path = Path(str(image))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path.absolute()).as_posix()


def parse_pairs(text: str, folder: Path, where: str) -> Pairs:
    """Reads pairs from JSON lines; `where` names the file in error texts.

    Raises:
        InvalidInput: see `read_pairs`.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        with reraising(f"{where}:{number}", ValidationError):
            row = parse_model(Pair, line)
        if row.text is None and row.captions:
            raise InvalidInput(f"{where}:{number}: captions without a text; give the true caption as text")
        if not os.path.isfile(folder / row.image):
            raise InvalidInput(f"{where}:{number}: no image at {folder / row.image}")
        rows.append(row)
    if not rows:
        raise InvalidInput(f"{where} holds no pairs")
    missing = next((number for number, row in enumerate(rows, 1) if (row.text is None) != (rows[0].text is None)), None)
    if missing is not None:
        raise InvalidInput(f"{where}: pair {missing} {'lacks' if rows[0].text else 'has'} a text, unlike the first one")
    return Pairs(folder, tuple(rows))


def _nothing_in(folder: Path) -> InvalidInput:
    return InvalidInput(f"{folder} holds no dataset.json, pairs.jsonl or images")
