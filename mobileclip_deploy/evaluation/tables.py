"""Tables of images (CSV and TSV with a header, JSON lines), and the rows of any parquet table."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mobileclip_deploy.errors import REASON, InvalidInput, import_optional, reraising
from mobileclip_deploy.evaluation.dataset import DatasetRow
from mobileclip_deploy.pictures.text_files import TABLE_BYTES, BadRows, parse_json, read_lines, validated

TABLES = {".csv", ".tsv", ".jsonl"}
# Accepted names of each column: open_clip's training tables have `filepath` and `title`.
COLUMNS = {
    "image": ("image", "filepath", "filename", "file", "path"),
    "label": ("label", "class"),
    "text": ("text", "caption", "title"),
}


class _TableLine(BaseModel, extra="ignore"):
    """One line of a JSON lines file."""

    image: str
    text: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    label: str | int | None = None


def read_table(path: Path, images: Path, bad: BadRows) -> list[DatasetRow]:
    """Reads all rows of a table.

    Args:
        images: folder that the paths in the table are relative to.

    Raises:
        InvalidInput: it cannot be read, has no rows, or has a bad one that is not to be skipped.
    """
    rows = _json_lines(path, images, bad) if path.suffix.lower() == ".jsonl" else _separated(path, images, bad)
    if not rows:
        raise InvalidInput(f"{path} holds no rows")
    return rows


def _json_lines(path: Path, images: Path, bad: BadRows) -> list[DatasetRow]:
    rows = []
    for number, text in read_lines(path, bad, TABLE_BYTES):
        where = f"{path}:{number}"
        try:
            line = validated(_TableLine, where, parse_json(where, text))
        except InvalidInput as error:
            bad.add(str(error))
            continue
        texts = [line.text] if isinstance(line.text, str) else line.text or []
        label = None if line.label is None else str(line.label)
        rows.append(DatasetRow(where, images / line.image, label, tuple(texts)))
    return rows


def _separated(path: Path, images: Path, bad: BadRows) -> list[DatasetRow]:
    lines = read_lines(path, bad, TABLE_BYTES)
    header = next(iter(lines), (0, ""))[1]
    # Excel writes semicolons where the comma is the decimal separator.
    comma = ";" if ";" in header and "," not in header else ","
    delimiter = "\t" if path.suffix.lower() == ".tsv" else comma
    reader = csv.reader((f"{text}\n" for _, text in lines), delimiter=delimiter, strict=True)
    rows: list[DatasetRow] = []
    places: dict[str, int] | None = None
    width = 0
    start = 0
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            bad.add(f"{path}:{lines[start][0]}: {error}")
            break  # an open quote swallows all lines that follow
        if cells is None:
            break
        where, start = f"{path}:{lines[start][0]}", reader.line_num
        if places is None:
            places, width = _columns(path, cells), len(cells)
        elif len(cells) <= max(places.values()):
            bad.add(f"{where}: {len(cells)} columns, fewer than the header")
        elif any(cell.strip() for cell in cells[width:]):  # a cell too many is half of a caption
            bad.add(f'{where}: {len(cells)} columns, the header has {width}: put a text with the separator in "quotes"')
        elif not (image := cells[places["image"]].strip()):
            bad.add(f"{where}: no image")
        else:
            label, text = (cells[places[name]].strip() if name in places else "" for name in ("label", "text"))
            rows.append(DatasetRow(where, images / image, label or None, (text,) if text else ()))
    return rows


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [cell.strip().lower() for cell in header]
    duplicate = next((name for aliases in COLUMNS.values() for name in aliases if names.count(name) > 1), None)
    if duplicate is not None:
        raise InvalidInput(f"{path}:1: two columns are called {duplicate}; rename one")
    indices = {
        column: names.index(present[0])
        for column, aliases in COLUMNS.items()
        if (present := [alias for alias in aliases if alias in names])
    }
    if "image" not in indices or len(indices) == 1:
        raise InvalidInput(
            f"{path}:1: the first line must name the columns: image, and label or text (it has {', '.join(header)})"
        )
    return indices


def read_parquet(file: Path, chosen: Callable[[Path, list[str]], list[str]]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a parquet table, with a few in memory at a time.

    Args:
        chosen: returns the columns to read, given the file and the names of its columns.

    Raises:
        DependencyMissing: pyarrow is not installed.
        InvalidInput: no readable table.
    """
    damaged = import_optional("pyarrow", "mobileclip-deploy[parquet]").ArrowException
    with reraising(f"{file} is no readable parquet table ({REASON})", damaged, OSError):
        table = import_optional("pyarrow.parquet", "mobileclip-deploy[parquet]").ParquetFile(file)
        for batch in table.iter_batches(batch_size=64, columns=chosen(file, table.schema_arrow.names)):
            yield from batch.to_pylist()
