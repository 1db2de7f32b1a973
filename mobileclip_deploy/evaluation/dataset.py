"""Datasets on disk: the folder format of the built-in set, and a folder of class folders as ImageNet's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.variants import models_dir

__all__ = ["Dataset", "builtin_dataset", "read_dataset"]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class Dataset:
    """Images, with one caption each for retrieval (empty: none), and a class index each for classification."""

    name: str
    images: tuple[Path, ...]
    captions: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    template: str | None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks this dataset can be used for."""
        return (("classification",) if self.labels else ()) + (("retrieval",) if self.captions else ())


class _Description(BaseModel):
    """dataset.json: file names are relative to it."""

    model_config = ConfigDict(extra="ignore")

    name: str
    pairs: str = "pairs.jsonl"
    classes: str | None = None
    template: str | None = None


class _Pair(BaseModel):
    """One line of the pairs file."""

    model_config = ConfigDict(extra="ignore")

    image: str
    text: str | None = None
    label: str | None = None


def builtin_dataset() -> Dataset:
    """The held-out evaluation set of the built-in checkpoint: emoji in a style it was not trained on."""
    return read_dataset(models_dir() / "nano" / "evaluation")


def read_dataset(folder: Path) -> Dataset:
    """Read a folder with a dataset.json, or one whose sub-folders are classes and hold images.

    Raises:
        InvalidInput: not a folder, no dataset in it, a row that cannot be used (named), or an empty class.
    """
    if not folder.is_dir():
        raise InvalidInput(f"no dataset folder at {folder}")
    if (folder / "dataset.json").is_file():
        return _described(folder)
    return _class_folders(folder)


def _described(folder: Path) -> Dataset:
    description = _parse(_Description, folder / "dataset.json", _read_text(folder / "dataset.json"))
    file = folder / description.pairs
    rows = [
        (number, _parse(_Pair, f"{file}:{number}", line))
        for number, line in enumerate(_read_text(file).splitlines(), start=1)
        if line.strip()
    ]
    if not rows:
        raise InvalidInput(f"{file} holds no pairs")
    classes: tuple[str, ...] = ()
    if description.classes:
        classes = tuple(line for line in _read_text(folder / description.classes).splitlines() if line.strip())
        if len(classes) != len(set(classes)) or not classes:
            raise InvalidInput(f"{folder / description.classes} must name at least one class, and none twice")
    index = {name: number for number, name in enumerate(classes)}
    images, captions, labels = [], [], []
    for number, row in rows:
        image = folder / row.image
        if not image.is_file():
            raise InvalidInput(f"{file}:{number}: no image at {image}")
        if classes and row.label not in index:
            raise InvalidInput(f"{file}:{number}: label {row.label!r} is not in {description.classes}")
        images.append(image)
        captions.append(row.text)
        if classes:
            labels.append(index[row.label or ""])
    if None in captions and any(caption is not None for caption in captions):
        raise InvalidInput(f"{file}: some rows have a text and others have none")
    if not classes and None in captions:
        raise InvalidInput(f"{folder}: rows without a text, and no classes: there is nothing to measure")
    return Dataset(
        description.name,
        tuple(images),
        tuple(caption for caption in captions if caption is not None),
        tuple(labels),
        classes,
        description.template,
    )


def _class_folders(folder: Path) -> Dataset:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise InvalidInput(f"{folder} holds neither a dataset.json nor class folders with images")
    images: list[Path] = []
    labels: list[int] = []
    for number, entry in enumerate(classes):
        files = sorted(file for file in entry.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InvalidInput(f"class folder {entry} holds no images")
        images += files
        labels += [number] * len(files)
    names = tuple(entry.name.replace("_", " ") for entry in classes)
    return Dataset(folder.name, tuple(images), (), tuple(labels), names, None)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}") from error


def _parse(kind: Any, where: Path | str, text: str) -> Any:
    try:
        return kind.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON: {error}") from error
