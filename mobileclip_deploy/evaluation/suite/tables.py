"""Retrieval and WinoGAViL as the datasets library keeps them: parquet files, their images inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclip_deploy.errors import DependencyMissing, InvalidInput, worded

__all__ = ["Captioned", "Puzzle", "read_captioned", "read_puzzles"]


@dataclass(frozen=True)
class Captioned:
    """An image as a file's bytes, and its captions."""

    where: str
    image: bytes
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Puzzle:
    """A cue, and candidates as image files' bytes, of which those that are `right` go with it."""

    where: str
    cue: str
    images: tuple[bytes, ...]
    right: tuple[bool, ...]


def read_captioned(folder: Path) -> Iterator[Captioned]:
    """The columns `image` and `caption` (a text, or a list of them).

    Raises:
        DependencyMissing: pyarrow is not installed.
        InvalidInput: no such table, or a row that is none.
    """
    for where, row in _rows(folder, ("image", "caption")):
        captions = row["caption"] if isinstance(row["caption"], list) else [row["caption"]]
        if not captions or not all(isinstance(one, str) for one in captions):
            raise InvalidInput(f"{where}: caption is no text and no list of texts")
        yield Captioned(where, _image(row["image"], where), tuple(captions))


def read_puzzles(folder: Path) -> Iterator[Puzzle]:
    """The columns `cue`, `candidates`, `associations` (names of candidates) and `candidate_images`.

    Raises:
        DependencyMissing, InvalidInput: as `read_captioned`.
    """
    for where, row in _rows(folder, ("cue", "candidates", "associations", "candidate_images")):
        names, wanted, images = row["candidates"], row["associations"], row["candidate_images"]
        if not all(isinstance(one, list) for one in (names, wanted, images)) or len(names) != len(images):
            raise InvalidInput(f"{where}: candidates, associations and candidate_images are no lists that fit together")
        right = tuple(name in wanted for name in names)
        if not isinstance(row["cue"], str) or not row["cue"] or not any(right):
            raise InvalidInput(f"{where}: no cue, or none of the candidates goes with it")
        yield Puzzle(where, row["cue"], tuple(_image(one, where) for one in images), right)


def _image(value: Any, where: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes) or not content:
        raise InvalidInput(f"{where}: the table holds no bytes of its image")
    return content


def _rows(folder: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise InvalidInput(f"{folder} holds no table (*.parquet)")
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DependencyMissing(
            "pyarrow is not installed, which reads parquet tables; `pip install mobileclip-deploy[parquet]`"
        ) from None
    for file in files:
        number = 0
        try:
            table = ParquetFile(file)
            missing = [name for name in columns if name not in table.schema_arrow.names]
            if missing:
                raise InvalidInput(f"{file} has no column {missing[0]}; it has {', '.join(table.schema_arrow.names)}")
            for batch in table.iter_batches(batch_size=64, columns=list(columns)):
                for row in batch.to_pylist():
                    yield f"{file}:{number}", row
                    number += 1
        except (ArrowException, OSError) as error:
            raise InvalidInput(f"{file} is no readable parquet table ({worded(error)})") from error
