"""Readers of datasets, for each of the known forms of a folder or a file."""

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
from mobileclip_deploy.evaluation.templates import parse_templates
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures.text_files import BadRows, parse_json, read_lines, read_text, validated

if TYPE_CHECKING:  # a dataset is refused before torch is imported
    from mobileclip_deploy.network.checkpoints.source import Source

BUILTIN = "builtin"
"""The path that names the built-in dataset."""


class _Language(BaseModel, extra="ignore"):
    """A dataset's texts in one language: `captions`, a file with a line per row of the pairs, and `classes`, one with a
    line per class."""

    captions: str
    classes: str | None = None
    template: str | Annotated[list[str], Field(fail_fast=True)] | None = None


class _DatasetDescription(BaseModel, extra="ignore"):
    """Content of dataset.json; file names are relative to it."""

    name: str
    pairs: str = "pairs.jsonl"
    classes: str | None = None
    template: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    languages: dict[str, _Language] = {}


def builtin_dataset() -> Dataset:
    """Returns the held-out evaluation set of the built-in checkpoint: emoji in a style it was not trained on."""
    return read_dataset(Path(BUILTIN))


def accuracy_dataset(source: Source, dataset: Path | None = None) -> Dataset | None:
    """Returns the dataset on which a checkpoint's accuracy is compared: the given one, else the built-in checkpoint's
    own. None if none is given and the checkpoint is not the built-in one.

    Raises:
        InvalidInput: no dataset is at the path given, or one that cannot rank models (`require_discriminating`).
    """
    if dataset is not None:
        return require_discriminating(read_dataset(dataset))
    return builtin_dataset() if source.provenance.builtin else None


def require_discriminating(dataset: Dataset) -> Dataset:
    """Returns the dataset itself if it can rank models.

    Raises:
        InvalidInput: every model solves it, since it has one class, or captions of one picture.
    """
    subject = f"the dataset {dataset.name}"
    if dataset.labels and len(dataset.classes) == 1:
        raise InvalidInput(
            f"{subject} has one class, {dataset.classes[0]!r}, which every model predicts; give two or more"
        )
    if dataset.captions and len(dataset.images) == 1:
        raise InvalidInput(f"{subject} has captions of one picture, which every model retrieves; give two or more")
    return dataset


def check_dataset(path: Path) -> None:
    """Refuses a path that cannot be a dataset, without reading pictures or shards.

    Raises:
        InvalidInput: there is neither a folder nor a file, its form is unknown, or it is a table without rows.
    """
    _check_form(path)
    if path.suffix.lower() in TABLES and path.is_file():
        read_table(path, path.parent, BadRows(skip=True))


def _check_form(path: Path) -> None:
    if str(path) == BUILTIN:
        return
    if path.is_dir():
        if not (path / "dataset.json").is_file():
            class_folders(path)  # shards are in folders, too
        return
    if not path.is_file():
        raise InvalidInput(f"no dataset folder or file at {path}")
    if path.suffix.lower() not in {*TABLES, ".json"}:
        raise InvalidInput(f"{path}: a dataset file ends with {', '.join(sorted(TABLES))}, or Karpathy's .json")


def read_dataset(
    path: Path,
    *,
    class_names: Path | None = None,
    images: Path | None = None,
    split: str = "test",
    skip_bad: bool = False,
    language: str | None = None,
) -> Dataset:
    """Reads a dataset in one of the forms of docs/evaluation.md; the arguments are those of `evaluation.door.evaluate`.

    Args:
        path: a folder (dataset.json, shards, or class folders), a table (.csv, .tsv, .jsonl), or Karpathy's JSON;
            "builtin" for the built-in held-out set (give a folder of that name by its absolute path).

    Raises:
        InvalidInput: no dataset there, or a row that cannot be used (named).
        UsageError: an option that has no meaning for a dataset of this form.
    """
    _check_form(path)
    bad = BadRows(skip_bad)
    if str(path) == BUILTIN:
        path = models_dir() / "nano" / "evaluation"
    if language is not None and not (path / "dataset.json").is_file():
        raise UsageError("`language` needs a dataset.json that names it; leave it out for other datasets")
    if path.is_file():
        return _read_file(path, class_names, images, split, bad)
    if images is not None:
        raise UsageError(f"`images` is for a table or a JSON file, but {path} is a folder")
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
            raise UsageError(f"`class_names` needs labels, but {path} has captions only")
        from mobileclip_deploy.evaluation.karpathy import read_karpathy

        return read_karpathy(path, images, split, bad)
    if images is not None and not images.is_dir():
        raise InvalidInput(f"no folder of images at {images}")
    classes = None if class_names is None else read_class_names(class_names, bad)
    return assemble(path.stem, read_table(path, images or path.parent, bad), classes, (), bad)


def _described(folder: Path, class_names: Path | None, bad: BadRows, language: str | None) -> Dataset:
    file = folder / "dataset.json"
    description = validated(_DatasetDescription, file, parse_json(file, read_text(file)))
    if language is not None:
        return _in_language(folder, description, language, bad)
    class_file = class_names or (folder / description.classes if description.classes else None)
    return assemble(
        description.name,
        read_table(folder / description.pairs, folder, bad),
        None if class_file is None else read_class_names(class_file, bad),
        parse_templates(description.template or ()),
        bad,
    )


def _in_language(folder: Path, description: _DatasetDescription, language: str, bad: BadRows) -> Dataset:
    if language not in description.languages:
        languages = ", ".join(description.languages) or "none"
        raise UsageError(f"the dataset {description.name} has no texts in {language!r}; known languages: {languages}")
    texts = description.languages[language]
    rows = read_table(folder / description.pairs, folder, BadRows(skip=False))
    captions = _lines(folder / texts.captions, len(rows), description.pairs)
    rows = [replace(row, texts=(text,)) for row, text in zip(rows, captions, strict=True)]
    classes = None
    if description.classes is not None and texts.classes is not None:
        english = read_class_names(folder / description.classes, bad)
        classes = read_class_names(folder / texts.classes, bad)
        _lines(folder / texts.classes, len(english.names), description.classes)
        class_indices = [english.find(row.label or "") for row in rows]
        rows = [
            row if index is None else replace(row, label=classes.names[index])
            for row, index in zip(rows, class_indices, strict=True)
        ]
    templates = parse_templates(texts.template or ())
    return assemble(f"{description.name} ({language})", rows, classes, templates, bad)


def _lines(path: Path, count: int, beside: str) -> list[str]:
    lines = [text for _, text in read_lines(path, BadRows(skip=False))]
    if len(lines) != count:
        raise InvalidInput(f"{path} has {len(lines):,} lines, and {beside} {count:,}; write one line for each")
    return lines
