"""Exports of an index for other engines: an array, USearch, a table that sqlite-vec reads, or Parquet."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mobileclip_deploy.base.files import StrPath, check_file_destination, file_sha256, replacing
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.tensors import RowParts
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.errors import REASON, InvalidInput, UsageError, import_optional, reraising
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.search.embedding_files import describe_array, write_array
from mobileclip_deploy.search.index import Index

HEAD = 1 << 12
"""Number of characters of NAME.json before its ids, at most."""


def export_index(index: Index | StrPath, output: StrPath, *, force: bool = False) -> tuple[Path, ...]:
    """Writes an index for another engine: its ids, and its vectors as float32 of length 1, without removed rows.

    Args:
        index: as `embed` writes it (.mcdx).
        output: NAME.npy: the array [N, D]. NAME.usearch: a USearch index (cosine, float16), whose keys are positions in
            the list of ids. With both, NAME.json contains the ids. NAME.sqlite: a table `embeddings (id TEXT, embedding
            BLOB)` of float32, as sqlite-vec's `vec_distance_cosine` and `vec0` take it. NAME.parquet: columns `id` and
            `vector`, a list of float32 with a fixed length, and the embedding space in the metadata.
        force: replace existing files.

    Returns:
        The files that were written.

    Raises:
        UsageError: the suffix is unknown, a file exists, or NAME.json contains the ids of another file.
        InvalidInput: the index is missing, damaged or empty.
        DependencyMissing: USearch or pyarrow is not installed.
    """
    index, output = index if isinstance(index, Index) else Index(index), Path(output)
    write = ENGINES.get(output.suffix)
    if write is None:
        raise UsageError(f"{output}: give a name that ends with {', '.join(ENGINES)}")
    beside = output.with_suffix(".json") if output.suffix in (".npy", ".usearch") else None
    if beside is not None and beside.exists():
        _check_unshared(beside, output)
    files = tuple(path for path in (output, beside) if path is not None)
    for path in files:
        check_file_destination(path, force)
    if not len(index):
        raise InvalidInput(f"{index.path} has no embeddings")
    with sole_writer(output, "search", force=force, beside=beside):
        _write(index, output, beside, write)
    return files


def _check_unshared(beside: Path, output: Path) -> None:
    """Refuses to replace the ids of another export, which would then have those of this one."""
    with beside.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(HEAD)  # the ids come last, and may be many
    other = re.search(r'"embeddings": ("(?:[^"\\\n]|\\.)*")', head)
    with reraising(f"{beside} cannot be read ({REASON}); choose another name than {output.name}", ValueError):
        name = output.name if other is None else json.loads(other[1])
    if name != output.name:
        raise UsageError(f"{beside} contains the ids of {name}; choose another name than {output.name}")


def _write(index: Index, output: Path, beside: Path | None, write: Callable[[Index, Path], None]) -> None:
    with replacing(output) as partial:
        write(index, partial)
    if beside is not None:
        record = {
            "schema_version": 1,
            "embeddings": output.name,
            "sha256": file_sha256(output),
            "tower": index.description.tower,
            "variant": index.description.variant,
            "embedding_space": index.description.embedding_space,
            "dtype": "float32" if output.suffix == ".npy" else "float16",
            "count": len(index),
            "dimension": index.store.dimension,
            "normalised": True,
            "artifact": index.description.artifact,
        }
        describe_array(beside, record, (name for _, name, _ in index))


def _rows(index: Index) -> Iterator[tuple[list[str], Floats]]:
    """Yields ids and vectors of length 1. Decoded from integers, their lengths are 0.999 to 1.001."""
    return ((ids, at_length_one(vectors).astype(np.float32)) for ids, vectors in index.vectors())


def _array(index: Index, path: Path) -> None:
    shape = (len(index), index.store.dimension)
    write_array(path, RowParts(shape, lambda: (vectors for _, vectors in _rows(index))))


def _usearch(index: Index, path: Path) -> None:
    first = 0
    graph = import_optional("usearch.index", "usearch").Index(ndim=index.store.dimension, metric="cos", dtype="f16")
    for ids, vectors in _rows(index):
        graph.add(np.arange(first, first + len(ids), dtype=np.uint64), vectors, threads=1)  # the same graph every time
        first += len(ids)
    graph.save(str(path))


def _sqlite(index: Index, path: Path) -> None:
    database = sqlite3.connect(path)
    try:
        with database:
            database.execute("CREATE TABLE embeddings (id TEXT, embedding BLOB)")
            database.execute("CREATE TABLE about (key TEXT, value TEXT)")
            database.executemany("INSERT INTO about VALUES (?, ?)", _about(index).items())
            for ids, vectors in _rows(index):
                rows = ((_utf8(name), row.tobytes()) for name, row in zip(ids, vectors, strict=True))
                database.executemany("INSERT INTO embeddings VALUES (?, ?)", rows)
    finally:
        database.close()


def _parquet(index: Index, path: Path) -> None:
    arrow, parquet = (import_optional(name, "mobileclip-deploy[parquet]") for name in ("pyarrow", "pyarrow.parquet"))
    size = index.store.dimension
    columns = [("id", arrow.string()), ("vector", arrow.list_(arrow.float32(), size))]
    schema = arrow.schema(columns, metadata=_about(index))
    with parquet.ParquetWriter(str(path), schema) as writer:
        for ids, vectors in _rows(index):
            lists = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), size)
            writer.write_batch(arrow.record_batch([arrow.array(map(_utf8, ids)), lists], schema=schema))


def _about(index: Index) -> dict[str, str]:
    """Returns the description of an index, such as its embedding space, as texts."""
    fields = index.description.model_dump(mode="json", exclude_none=True)
    return {key: str(value) for key, value in fields.items()}


def _utf8(name: str) -> str:
    """Returns an id as UTF-8 can express it: file names may have other bytes."""
    return name.encode("utf-8", "replace").decode()


ENGINES: dict[str, Callable[[Index, Path], None]] = {
    ".npy": _array,
    ".usearch": _usearch,
    ".sqlite": _sqlite,
    ".parquet": _parquet,
}
