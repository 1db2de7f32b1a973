"""Reader of embeddings that an app wrote, with the names of their rows if the file has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from mobileclip_deploy.base.files import read_json, read_regular
from mobileclip_deploy.base.files.arrays import Array, Doubles, plain_array, plain_arrays
from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.errors import REASON, InvalidInput, Malformed, UsageError, listed, reraising
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.text_files import TABLE_BYTES, BadRows, parse_json, read_lines

SUFFIXES = (".npy", ".npz", ".jsonl", ".safetensors")
NAME_KEYS = ("image", "text", "file", "path", "name", "id")
MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class AppEmbeddings:
    """Rows of a file, float64 [N, D], and their names. `names`: None if the file has none."""

    values: Doubles
    names: tuple[str, ...] | None


class _Line(BaseModel):
    """A line of a .jsonl, as `embed` writes it."""

    embedding: tuple[float, ...] = Field(min_length=1, max_length=65_536)


def read_embeddings(path: Path, tower: TowerName) -> AppEmbeddings:
    """Reads the rows of a .npy, .npz, .jsonl or .safetensors.

    Names come from the .json next to a .npy, from the lines of a .jsonl, or from the metadata of a .safetensors, as
    `embed` writes them.

    Raises:
        UsageError: another suffix, or an archive with several arrays.
        InvalidInput: the file is missing, damaged, or has no rows of equal length.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: embeddings are read from {', '.join(SUFFIXES)}; write one of these")
    names: Any = None
    if suffix == ".jsonl":
        values, names = _lines(path)
    elif suffix == ".safetensors":
        tensors, metadata = read_tensors(path, f"{path} cannot be read: {REASON}")
        values, names = _chosen(path, tensors, tower), metadata.get("names")
        names = None if names is None else parse_json(path, names)
    else:
        with reraising(f"{path} cannot be read", OSError, Malformed):
            content = read_regular(path, TABLE_BYTES)
            arrays = plain_arrays(content, "f", TABLE_BYTES) if suffix == ".npz" else {"": plain_array(content, "f")}
        values = _chosen(path, arrays, tower)
        if suffix == ".npy" and (described := path.with_suffix(".json")).is_file():
            with reraising(f"{described} cannot be read", OSError, ValueError, RecursionError):
                record = read_json(described, TABLE_BYTES)
            names = record.get("names") if isinstance(record, dict) else None
    rows = values.reshape(len(values), -1) if values.ndim != 1 else values[None]
    if not rows.size or len(rows) > MOST_ROWS or rows.dtype.kind != "f":
        shape = f"an array of {rows.dtype} {list(values.shape)}"
        raise InvalidInput(f"{path} has {shape}; write floats [N, D], at most {MOST_ROWS:,} rows")
    if names is not None and not (
        isinstance(names, list) and len(names) == len(rows) and all(isinstance(name, str) for name in names)
    ):
        raise InvalidInput(f"{path}: its names do not fit its {len(rows):,} rows; write one string for each")
    return AppEmbeddings(rows.astype(np.float64), None if names is None else tuple(names))


def _chosen(path: Path, arrays: Mapping[str, Array], tower: TowerName) -> Array:
    usual = (f"{tower}_embeddings", f"{tower}_embeds", "embeddings")
    name = next((name for name in usual if name in arrays), next(iter(arrays), "") if len(arrays) == 1 else None)
    if name is None or name not in arrays:
        raise UsageError(f"{path} has the arrays {listed(arrays) or 'none'}; name the right one {usual[0]}")
    return arrays[name]


def _lines(path: Path) -> tuple[Array, list[str] | None]:
    """Reads a .jsonl: a list of numbers in each line, or an object with an `embedding` and perhaps a name."""
    rows: list[tuple[float, ...]] = []
    names: list[str] = []
    for number, line in read_lines(path, BadRows(skip=False), TABLE_BYTES):
        value = parse_json(f"{path}:{number}", line)
        record = value if isinstance(value, dict) else {"embedding": value}
        with reraising(f"{path}:{number}", ValidationError):
            rows.append(_Line.model_validate(record).embedding)
        names += [str(record[key]) for key in NAME_KEYS if key in record][:1]
    if len({len(row) for row in rows}) != 1:
        raise InvalidInput(f"{path} has rows of different lengths, or none; write one embedding in each line")
    return np.array(rows), names if len(names) == len(rows) else None


def rows_of_names(names: Sequence[str], items: Sequence[str], source: Path) -> list[int]:
    """Returns the index of each name among the items: the same text, else the same end of a path, else the same stem.

    Raises:
        InvalidInput: a name is of no item, or of several.
    """
    exact = {item: index for index, item in enumerate(items)}
    by_end: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        for end in {*_ends(Path(item).as_posix()), Path(item).stem}:
            by_end.setdefault(end, []).append(index)
    indices = []
    for name in names:
        ends = (end for end in _ends(name.replace("\\", "/")) if end in by_end)
        fitting = [exact[name]] if name in exact else by_end.get(next(ends, ""), [])
        if len(fitting) != 1:
            problem = "is the name of several" if fitting else "is not among"
            raise InvalidInput(f"{name[:80]!r} {problem} the inputs in {source}; correct the rows' names")
        indices.append(fitting[0])
    return indices


def _ends(path: str) -> list[str]:
    """Returns a path, then the same without its first folder, and so on."""
    parts = path.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
