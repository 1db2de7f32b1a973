"""Embeddings kept on disk, so that an interrupted evaluation goes on where it was, and a finished one costs little.

One folder an artifact, in it shards of about `SHARD` embeddings, each written beside its place and renamed: a killed
process loses the shard it was filling, and leaves none that is half written.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.errors import InvalidInput, worded
from mobileclip_deploy.files import check_tensors, content_sha256
from mobileclip_deploy.files.spilling import spilling_database, telling_of_room

__all__ = ["SHARD", "EmbeddingStore", "in_order"]

SHARD = 256
FORMAT = "1"


class EmbeddingStore:
    """The embeddings of one artifact, by content: an input is kept under the SHA-256 of its bytes. Any number takes the
    same memory. To be closed.

    Args:
        folder: of all artifacts; made when the first shard is written.
        identity: all that decides the embeddings beside the content: embedding space, artifact, engine, preprocessing.

    Raises:
        InvalidInput: the folder is a file, a shard in it cannot be read, or there is no room for a list of them.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"the cache {folder} is a file; give a folder")
        self._identity = {"format": FORMAT} | identity
        key = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:32]
        self._folder = folder / key
        self._places = _Places()
        self._open: tuple[Path, npt.NDArray[np.float32]] | None = None
        self._pending: dict[str, npt.NDArray[np.float32]] = {}
        for shard in sorted(self._folder.glob("*.safetensors")):
            self._places.add(shard, _names(shard), had=True)

    def had(self, name: str) -> bool:
        """Whether it was kept when the store was opened: another thread may add to it meanwhile, and how many inputs
        are computed together must not depend on how far that is."""
        return self._places.had(name)

    def __contains__(self, name: str) -> bool:
        return name in self._pending or self._places.find(name) is not None

    def get(self, name: str) -> npt.NDArray[np.float32]:
        """A kept embedding, float32 [D].

        Raises:
            InvalidInput: its shard was damaged since.
        """
        if name in self._pending:
            return self._pending[name]
        found = self._places.find(name)
        assert found is not None, name
        shard, row = found
        if self._open is None or self._open[0] != shard:  # neighbours were written together
            self._open = shard, _embeddings(shard)
        return self._open[1][row]

    def add(self, names: Iterable[str], embeddings: npt.NDArray[np.float32]) -> None:
        """Keep the embeddings [N, D] of one batch; written when a shard is full. A shard ends where a batch does, so
        that a run that goes on forms the same batches as one that was never interrupted: rounding depends on them."""
        self._pending |= dict(zip(names, embeddings, strict=True))
        if len(self._pending) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            InvalidInput: the folder cannot be written.
        """
        if not self._pending:
            return
        names = list(self._pending)
        shard = self._folder / f"{content_sha256(' '.join(names).encode())[:32]}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"the cache {self._folder} cannot be written: {error.strerror}") from error
        values = torch.from_numpy(np.stack(list(self._pending.values())))
        metadata = self._identity | {"names": json.dumps(names)}
        write_tensors(shard, {"embeddings": values}, metadata)
        self._places.add(shard, names, had=False)
        self._pending = {}

    def close(self) -> None:
        """Write what is not written yet, and give up the list of what is.

        Raises:
            InvalidInput: see `flush`.
        """
        try:
            self.flush()
        finally:
            self._places.close()


def in_order(
    names: Sequence[str], answers: Mapping[str, npt.NDArray[np.float32]], store: EmbeddingStore | None
) -> tuple[npt.NDArray[np.float32], int]:
    """The embeddings [N, D] of inputs in their order: those that were computed, which are kept, and those that were
    kept already; and how many were new."""
    if store is not None:
        answers = {name: row for name, row in answers.items() if name not in store}
        if answers:
            store.add(answers, np.stack(list(answers.values())))
    found = [answers[name] if name in answers or store is None else store.get(name) for name in names]
    return np.stack(found).astype(np.float32, copy=False) if found else np.zeros((0, 0), np.float32), len(answers)


class _Places:
    """Where each embedding is, and whether it was there at the beginning; asked by several threads."""

    def __init__(self) -> None:
        self._shards: list[Path] = []
        self._lock = threading.Lock()
        self._found = spilling_database(
            "places (name TEXT PRIMARY KEY, shard INTEGER, line INTEGER, had INTEGER) WITHOUT ROWID"
        )

    def add(self, shard: Path, names: Iterable[str], had: bool) -> None:
        number = len(self._shards)
        self._shards.append(shard)
        rows = ((name, number, line, had) for line, name in enumerate(names))
        with self._lock, telling_of_room():
            self._found.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)", rows)

    def had(self, name: str) -> bool:
        return bool((self._row(name) or (0, 0, False))[2])

    def find(self, name: str) -> tuple[Path, int] | None:
        row = self._row(name)
        return None if row is None else (self._shards[row[0]], row[1])

    def _row(self, name: str) -> tuple[int, int, int] | None:
        with self._lock, telling_of_room():
            found: sqlite3.Cursor = self._found.execute("SELECT shard, line, had FROM places WHERE name = ?", (name,))
            row: tuple[int, int, int] | None = found.fetchone()
            return row

    def close(self) -> None:
        with self._lock:
            self._found.close()


def _names(shard: Path) -> list[str]:
    try:
        check_tensors(shard)
        with safe_open(shard, framework="np") as file:
            names = json.loads(file.metadata()["names"])
            rows = file.get_slice("embeddings").get_shape()[0]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{shard} is damaged ({worded(error)}); delete it, and it will be computed again") from error
    if len(names) != rows:
        raise InvalidInput(f"{shard} is damaged ({rows} rows for {len(names)} names); delete it")
    return list(names)


def _embeddings(shard: Path) -> npt.NDArray[np.float32]:
    try:
        with safe_open(shard, framework="np") as file:
            return np.asarray(file.get_tensor("embeddings"), dtype=np.float32)
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{shard} is damaged ({worded(error)}); delete it, and it will be computed again") from error
