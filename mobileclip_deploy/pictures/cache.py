"""Embeddings kept on disk, so that an interrupted evaluation goes on where it was, and a finished one costs little.

One SQLite file per artifact, to which about `SHARD` embeddings are added at once: a killed process loses those that it
had not added yet, and leaves nothing that is half written.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.base.files.leftovers import remove
from mobileclip_deploy.errors import DiskFull, InvalidInput

SHARD = 256
FORMAT = "2"
LONGEST_PATH = 480
"""SQLite opens paths of 512 bytes; the names of its journals take some of them."""
PATIENCE = 60.0
"""Seconds that one process waits for another that adds to the same file."""


class EmbeddingStore:
    """The embeddings of one artifact, by content: an input is kept under the SHA-256 of its bytes. Any number takes the
    same memory. To be closed.

    Args:
        folder: of all artifacts; made where it is not there.
        identity: all that decides the embeddings beside the content: embedding space, artifact, engine, preprocessing.

    Raises:
        InvalidInput: the folder is a file or cannot be written, or what is kept in it is damaged.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        key = content_sha256(json.dumps({"format": FORMAT} | identity, sort_keys=True).encode())[:32]
        self._file = folder / f"{key}.sqlite"
        self._lock = threading.Lock()
        self._pending: dict[str, npt.NDArray[np.float32]] = {}
        if len(os.fsencode(self._file.absolute())) > LONGEST_PATH:
            raise InvalidInput(
                f"the path of {self._file.name} has more than {LONGEST_PATH} bytes, which SQLite does not open; choose "
                f"a shorter one than {str(folder)[:80]}..."
            )
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"the cache {folder} is a file; give a folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"the cache {folder} cannot be written: {error.strerror}") from error
        with self._telling():
            self._kept = sqlite3.connect(self._file, PATIENCE, isolation_level=None, check_same_thread=False)
            self._kept.execute("CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, name UNIQUE, embedding)")
            (self._begun,) = self._kept.execute("SELECT coalesce(max(number), 0) FROM kept").fetchone()

    def had(self, name: str) -> bool:
        """Whether it was kept when the store was opened: another thread may add to it meanwhile, and how many inputs
        are computed together must not depend on how far that is."""
        row = self._row("number", name)
        return row is not None and int(row[0]) <= self._begun

    def __contains__(self, name: str) -> bool:
        return name in self._pending or self._row("1", name) is not None

    def get(self, name: str) -> npt.NDArray[np.float32]:
        """A kept embedding, float32 [D].

        Raises:
            InvalidInput: the file was damaged since.
        """
        if name in self._pending:
            return self._pending[name]
        row = self._row("embedding", name)
        assert row is not None, name
        return np.frombuffer(row[0], np.float32)

    def add(self, names: Iterable[str], embeddings: npt.NDArray[np.float32]) -> None:
        """Keep the embeddings [N, D] of one batch; written when there are enough. That ends where a batch does, so that
        a run that goes on forms the same batches as one that was never interrupted: rounding depends on them."""
        self._pending |= dict(zip(names, embeddings.astype(np.float32, copy=False), strict=True))
        if len(self._pending) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            InvalidInput: the file cannot be written.
        """
        rows = [(name, row.tobytes()) for name, row in self._pending.items()]
        with self._telling():
            self._kept.execute("BEGIN IMMEDIATE")
            self._kept.executemany("INSERT OR IGNORE INTO kept (name, embedding) VALUES (?, ?)", rows)
            self._kept.execute("COMMIT")
        self._pending = {}

    def close(self) -> None:
        """Write what is not written yet, and close the file.

        Raises:
            InvalidInput: see `flush`.
        """
        try:
            if self._pending:
                self.flush()
        finally:
            with self._lock:  # a thread may be asking
                self._kept.close()

    def _row(self, what: str, name: str) -> tuple[bytes] | None:
        with self._telling():
            asked = self._kept.execute(f"SELECT {what} FROM kept WHERE name = ?", (name,))
            found: tuple[bytes] | None = asked.fetchone()
            return found

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What the file is asked by one thread at a time; what goes wrong, in one line."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise DiskFull(str(self._file.parent)) from error
            if isinstance(error, sqlite3.OperationalError):
                raise InvalidInput(f"the cache {self._file} cannot be read or written; give another folder") from error
            raise InvalidInput(f"{self._file} is damaged; delete it, and it will be computed again") from error


@contextmanager
def kept_beside(output: Path) -> Iterator[Path]:
    """A cache for what an output is made of, `.NAME.partial` beside it. It is removed when the output is complete, and
    where an error comes before anything was kept."""
    folder = output.parent / f".{output.name}.partial"
    try:
        yield folder
    except BaseException as stopped:
        if not any(map(_keeps, folder.glob("*.sqlite"))):
            remove(folder)
        elif isinstance(stopped, KeyboardInterrupt):
            stopped.add_note(f"what was embedded is kept in {folder}; the same command goes on with it")
        raise
    remove(folder)


def _keeps(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(file)) as kept:
            return kept.execute("SELECT 1 FROM kept LIMIT 1").fetchone() is not None
    except sqlite3.DatabaseError:  # damaged: the error that is raised names the file
        return True


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
