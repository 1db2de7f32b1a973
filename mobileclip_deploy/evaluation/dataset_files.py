"""Reading datasets: which of the known forms a folder or a file has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.class_folders import class_folders, read_class_folders
from mobileclip_deploy.evaluation.class_names import read_class_names
from mobileclip_deploy.evaluation.dataset import Dataset, assemble
from mobileclip_deploy.evaluation.tables import TABLES, read_table
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.text_files import (
    BadRows,
    parse_json,
    parse_templates,
    read_lines,
    read_text,
    validated,
)

if TYPE_CHECKING:  # a dataset is refused before torch is imported
    from mobileclip_deploy.network.checkpoints.source import Source

BUILTIN = "builtin"
"""What stands in the place of a dataset's path for the built-in one."""


class _Language(BaseModel, extra="ignore"):
    """What a dataset has in a language: `captions`, a file with a line for each row of its pairs, and `classes`, one
    with a line for each of its classes."""

    captions: str
    classes: str | None = None
    template: str | Annotated[list[str], Field(fail_fast=True)] | None = None


class _Description(BaseModel, extra="ignore"):
    """dataset.json: file names are relative to it."""

    name: str
    pairs: str = "pairs.jsonl"
    classes: str | None = None
    template: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    languages: dict[str, _Language] = {}


def builtin_dataset() -> Dataset:
    """The held-out evaluation set of the built-in checkpoint: emoji in a style it was not trained on."""
    return read_dataset(Path(BUILTIN))


def accuracy_dataset(source: Source, dataset: Path | None = None) -> Dataset | None:
    """What a checkpoint's accuracy is compared on: the built-in one has a dataset of its own, others have none but what
    is named.

    Raises:
        InvalidInput: no dataset is at the path given, or one that tells nothing (`telling`).
    """
    if dataset is not None:
        return telling(read_dataset(dataset))
    return builtin_dataset() if source.provenance.builtin else None


def telling(dataset: Dataset) -> Dataset:
    """The dataset itself.

    Raises:
        InvalidInput: it tells nothing of a model: it has one class, or captions of one picture.
    """
    named = f"the dataset {dataset.name}"
    if dataset.labels and len(dataset.classes) == 1:
        raise InvalidInput(f"{named} has one class, {dataset.classes[0]!r}, which every model finds; give two or more")
    if dataset.captions and len(dataset.images) == 1:
        raise InvalidInput(f"{named} has captions of one picture, which every model finds; give two pictures or more")
    return dataset


def check_dataset(path: Path) -> None:
    """Refuse a path at which no dataset can be, without looking at pictures or shards.

    Raises:
        InvalidInput: there is neither a folder nor a file, a file of no known form or a folder of none, or a table
            without a row.
    """
    _check_form(path)
    if path.suffix.lower() in TABLES and path.is_file():
        read_table(path, path.parent, BadRows(skip=True))


def _check_form(path: Path) -> None:
    if str(path) == BUILTIN:
        return
    if path.is_dir():
        if not (path / "dataset.json").is_file():
            class_folders(path)  # shards stand in folders, too
        return
    if not path.is_file():
        raise InvalidInput(f"no dataset folder or file at {path}")
    if path.suffix.lower() not in {*TABLES, ".json"}:
        raise InvalidInput(f"{path}: a dataset file is one of {', '.join(sorted(TABLES))}, or Karpathy's .json")


def read_dataset(
    path: Path,
    *,
    class_names: Path | None = None,
    images: Path | None = None,
    split: str = "test",
    skip_bad: bool = False,
    language: str | None = None,
) -> Dataset:
    """Read a dataset in one of the forms of docs/datasets.md; the arguments are those of `evaluation.door.evaluate`.

    Args:
        path: a folder (dataset.json, shards, or class folders), a table (.csv, .tsv, .jsonl), or Karpathy's JSON;
            "builtin" for the built-in held-out set (a folder of that name is taken by its absolute path).

    Raises:
        InvalidInput: no dataset there, or a row that cannot be used (named).
        UsageError: an option that has no meaning for a dataset of this form.
    """
    _check_form(path)
    bad = BadRows(skip_bad)
    if str(path) == BUILTIN:
        path = models_dir() / "nano" / "evaluation"
    if language is not None and not (path / "dataset.json").is_file():
        raise UsageError("`language` goes with a dataset.json that names it; a dataset of one language needs none")
    if path.is_file():
        return _read_file(path, class_names, images, split, bad)
    if images is not None:
        raise UsageError(f"`images` goes with a table or a JSON file, and {path} is a folder")
    if (path / "dataset.json").is_file():
        return _described(path, class_names, bad, language)
    from mobileclip_deploy.evaluation.webdataset import has_shards, read_webdataset

    if has_shards(path, split):
        return read_webdataset(path, class_names, split, bad)
    return read_class_folders(path, class_names, bad)


def _read_file(path: Path, class_names: Path | None, images: Path | None, split: str, bad: BadRows) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".json":
        if class_names is not None:
            raise UsageError(f"`class_names` goes with labels, and {path} has captions only")
        from mobileclip_deploy.evaluation.karpathy import read_karpathy

        return read_karpathy(path, images, split, bad)
    if images is not None and not images.is_dir():
        raise InvalidInput(f"no folder of images at {images}")
    classes = None if class_names is None else read_class_names(class_names, bad)
    return assemble(path.stem, read_table(path, images or path.parent, bad), classes, (), bad)


def _described(folder: Path, class_names: Path | None, bad: BadRows, language: str | None) -> Dataset:
    file = folder / "dataset.json"
    description = validated(_Description, file, parse_json(file, read_text(file)))
    if language is not None:
        return _in_language(folder, description, language, bad)
    named = class_names or (folder / description.classes if description.classes else None)
    return assemble(
        description.name,
        read_table(folder / description.pairs, folder, bad),
        None if named is None else read_class_names(named, bad),
        parse_templates(description.template or ()),
        bad,
    )


def _in_language(folder: Path, description: _Description, language: str, bad: BadRows) -> Dataset:
    if language not in description.languages:
        known = ", ".join(description.languages) or "none"
        raise UsageError(f"the dataset {description.name} has no texts in {language!r}; known languages: {known}")
    told = description.languages[language]
    rows = read_table(folder / description.pairs, folder, BadRows(skip=False))
    captions = _lines(folder / told.captions, len(rows), description.pairs)
    rows = [replace(row, texts=(text,)) for row, text in zip(rows, captions, strict=True)]
    classes = None
    if description.classes is not None and told.classes is not None:
        english = read_class_names(folder / description.classes, bad)
        classes = read_class_names(folder / told.classes, bad)
        _lines(folder / told.classes, len(english.names), description.classes)
        places = [english.find(row.label or "") for row in rows]
        rows = [
            row if place is None else replace(row, label=classes.names[place])
            for row, place in zip(rows, places, strict=True)
        ]
    templates = parse_templates(told.template or ())
    return assemble(f"{description.name} ({language})", rows, classes, templates, bad)


def _lines(path: Path, count: int, beside: str) -> list[str]:
    lines = [text for _, text in read_lines(path, BadRows(skip=False))]
    if len(lines) != count:
        raise InvalidInput(f"{path} has {len(lines):,} lines, and {beside} {count:,}; each line stands for one of them")
    return lines
