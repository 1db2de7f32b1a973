"""Exports of an index for other engines: an array, USearch, or a table that sqlite-vec reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mobileclip_deploy.base.files import StrPath, check_file_destination, file_sha256, replacing
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.errors import InvalidInput, UsageError, needed
from mobileclip_deploy.network.checkpoints.writing import Rows
from mobileclip_deploy.search.embedding_files import describe_array, write_array
from mobileclip_deploy.search.index import Index


def export_index(index: Index | StrPath, output: StrPath, *, force: bool = False) -> tuple[Path, ...]:
    """Writes an index for another engine: its ids, and its vectors decoded to float32, without removed rows.

    Args:
        index: as `embed` writes it (.mcdx).
        output: NAME.npy: the array [N, D]. NAME.usearch: a USearch index (cosine, float16), whose keys are positions in
            the list of ids. With both, NAME.json contains the ids. NAME.sqlite: a table `embeddings (id TEXT, embedding
            BLOB)` of float32, as sqlite-vec's `vec_distance_cosine` and `vec0` take it.
        force: replace existing files.

    Returns:
        The files that were written.

    Raises:
        UsageError: the suffix is unknown, or a file exists.
        InvalidInput: the index is missing, damaged or empty.
        DependencyMissing: USearch is not installed.
    """
    index, output = index if isinstance(index, Index) else Index(index), Path(output)
    write = ENGINES.get(output.suffix)
    if write is None:
        raise UsageError(f"{output}: give a name that ends with {', '.join(ENGINES)}")
    beside = None if output.suffix == ".sqlite" else output.with_suffix(".json")
    files = tuple(path for path in (output, beside) if path is not None)
    for path in files:
        check_file_destination(path, force)
    if not len(index):
        raise InvalidInput(f"{index.path} holds no embeddings")
    with sole_writer(output, "search", force=force, beside=beside):
        _write(index, output, beside, write)
    return files


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


def _array(index: Index, path: Path) -> None:
    shape = (len(index), index.store.dimension)
    write_array(path, Rows(shape, lambda: (vectors for _, vectors in index.vectors())))


def _usearch(index: Index, path: Path) -> None:
    first = 0
    graph = needed("usearch.index", "usearch").Index(ndim=index.store.dimension, metric="cos", dtype="f16")
    for ids, vectors in index.vectors():
        graph.add(np.arange(first, first + len(ids), dtype=np.uint64), vectors, threads=1)  # the same graph every time
        first += len(ids)
    graph.save(str(path))


def _sqlite(index: Index, path: Path) -> None:
    database = sqlite3.connect(path)
    try:
        with database:
            database.execute("CREATE TABLE embeddings (id TEXT, embedding BLOB)")
            database.execute("CREATE TABLE about (key TEXT, value TEXT)")
            fields = index.description.model_dump(mode="json", exclude_none=True).items()
            database.executemany("INSERT INTO about VALUES (?, ?)", [(key, str(value)) for key, value in fields])
            for ids, vectors in index.vectors():
                rows = (
                    (name.encode("utf-8", "replace").decode(), row.tobytes())
                    for name, row in zip(ids, vectors, strict=True)
                )
                database.executemany("INSERT INTO embeddings VALUES (?, ?)", rows)
    finally:
        database.close()


ENGINES: dict[str, Callable[[Index, Path], None]] = {".npy": _array, ".usearch": _usearch, ".sqlite": _sqlite}
