"""Flickr30k and COCO captions in Karpathy's split files: dataset_flickr30k.json, dataset_coco.json."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset import Dataset, DatasetRow, assemble
from mobileclip_deploy.pictures.text_files import TABLE_BYTES, TABLE_ITEMS, BadRows, parse_json, read_text, validated


class _Sentence(BaseModel, extra="ignore"):
    raw: str


class _Image(BaseModel, extra="ignore"):
    filename: str
    filepath: str = ""
    split: str
    sentences: Annotated[list[_Sentence], Field(fail_fast=True)]


class _File(BaseModel, extra="ignore"):
    images: Annotated[list[_Image], Field(fail_fast=True)]
    dataset: str


def read_karpathy(path: Path, images: Path | None, split: str, bad: BadRows) -> Dataset:
    """Reads the images of one split with all their sentences (`raw`), about five each.

    Args:
        images: folder of the image files, with or without COCO's val2014/ below it; searched next to the file if None.

    Raises:
        InvalidInput: not such a file, no such split, or a bad row that is not to be skipped.
    """
    content = validated(_File, path, parse_json(path, read_text(path, TABLE_BYTES), TABLE_ITEMS))
    chosen = [(number, image) for number, image in enumerate(content.images) if image.split == split]
    if not chosen:
        splits = ", ".join(sorted({image.split for image in content.images}))
        raise InvalidInput(f"{path} has no split {split!r}; it has {splits}")
    root = _root(path, images, content.dataset, chosen[0][1])
    rows = []
    for number, image in chosen:
        texts = tuple(dict.fromkeys(sentence.raw.strip() for sentence in image.sentences))
        file = next((p for p in _places(root, image) if os.path.isfile(p)), root / image.filepath / image.filename)
        rows.append(DatasetRow(f"{path}, images[{number}]", file, None, texts))
    return assemble(f"{content.dataset} {split}", rows, None, (), bad)


def _places(root: Path, image: _Image) -> list[Path]:
    return [root / image.filepath / image.filename, root / image.filename]


def _root(path: Path, images: Path | None, dataset: str, first: _Image) -> Path:
    if images is not None:
        if not images.is_dir():
            raise InvalidInput(f"no folder of images at {images}")
        return images
    folders = [path.parent, *(path.parent / name for name in ("images", f"{dataset}-images", f"{dataset}_images"))]
    for folder in folders:
        if any(os.path.isfile(candidate) for candidate in _places(folder, first)):
            return folder
    searched = ", ".join(str(candidate) for candidate in _places(folders[0], first))
    raise InvalidInput(f"{path}: its first image was not found ({searched}); name the folder with `images`")
