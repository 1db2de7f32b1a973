"""Embeddings cached on disk, so that an interrupted evaluation can resume and a repeated one is cheap.

Each artifact has one SQLite file, to which about `SHARD` embeddings are added at once. A killed process loses the
embeddings that are not added yet, and leaves nothing half written.
"""

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
from mobileclip_deploy.base.files.staging import remove
from mobileclip_deploy.errors import DiskFull, InvalidInput

SHARD = 256
FORMAT = "2"
LONGEST_PATH = 480
"""Longest path of the file, in bytes. SQLite opens paths of 512 bytes; the names of its journals need some of them."""
PATIENCE = 60.0
"""Seconds to wait for another process that adds to the same file."""


class EmbeddingStore:
    """Cached embeddings of one artifact, by the SHA-256 of the input's bytes. Memory use does not grow with their
    number. Must be closed.

    Args:
        folder: folder of the caches of all artifacts; created if missing.
        identity: everything but the content that the embeddings depend on: embedding space, artifact, engine,
            preprocessing.

    Raises:
        InvalidInput: the folder is a file or cannot be written, or its content is damaged.
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
        """Returns whether an embedding was in the store when it was opened.

        Another thread may add embeddings meanwhile. The size of a batch must not depend on that thread's progress.
        """
        row = self._row("number", name)
        return row is not None and int(row[0]) <= self._begun

    def __contains__(self, name: str) -> bool:
        return name in self._pending or self._row("1", name) is not None

    def get(self, name: str) -> npt.NDArray[np.float32]:
        """Returns a stored embedding, float32 [D].

        Raises:
            InvalidInput: the file was damaged since.
        """
        if name in self._pending:
            return self._pending[name]
        row = self._row("embedding", name)
        assert row is not None, name
        return np.frombuffer(row[0], np.float32)

    def add(self, names: Iterable[str], embeddings: npt.NDArray[np.float32]) -> None:
        """Adds the embeddings [N, D] of one batch; they are written once there are enough.

        Writes end at the end of a batch. A resumed run then forms the same batches as an uninterrupted one; rounding
        depends on them.
        """
        self._pending |= dict(zip(names, embeddings.astype(np.float32, copy=False), strict=True))
        if len(self._pending) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Writes the pending embeddings.

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
        """Writes the pending embeddings, and closes the file.

        Raises:
            InvalidInput: see `flush`.
        """
        try:
            if self._pending:
                self.flush()
        finally:
            with self._lock:  # a thread may be reading
                self._kept.close()

    def _row(self, what: str, name: str) -> tuple[bytes] | None:
        with self._telling():
            cursor = self._kept.execute(f"SELECT {what} FROM kept WHERE name = ?", (name,))
            row: tuple[bytes] | None = cursor.fetchone()
            return row

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Gives one thread at a time access to the file; re-raises SQLite's errors in one line."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code == sqlite3.SQLITE_FULL:
                raise DiskFull(str(self._file.parent)) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR_LOCK):
                reason = "cannot be locked: another process uses it, or its disk has no locks"
                raise InvalidInput(f"the cache {self._file} {reason}; choose a folder on another disk") from error
            if isinstance(error, sqlite3.OperationalError):
                raise InvalidInput(f"the cache {self._file} cannot be read or written; give another folder") from error
            raise InvalidInput(f"{self._file} is damaged; delete it, and it will be computed again") from error


@contextmanager
def partial_cache(output: Path) -> Iterator[Path]:
    """Yields the folder of a cache for the work on an output, `.NAME.partial` next to it.

    The folder is removed when the output is complete, or if an error comes before anything was cached.
    """
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
    if not file.stat().st_size:  # SQLite makes the file before it locks it
        return False
    try:
        with closing(sqlite3.connect(file)) as database:
            return database.execute("SELECT 1 FROM kept LIMIT 1").fetchone() is not None
    except sqlite3.DatabaseError:  # damaged: the error that is raised names the file
        return True


def in_order(
    names: Sequence[str], answers: Mapping[str, npt.NDArray[np.float32]], store: EmbeddingStore | None
) -> tuple[npt.NDArray[np.float32], int]:
    """Returns the embeddings [N, D] of inputs in their order, and the number of new ones.

    Computed embeddings are added to the store; all others are read from it.
    """
    if store is not None:
        answers = {name: row for name, row in answers.items() if name not in store}
        if answers:
            store.add(answers, np.stack(list(answers.values())))
    rows = [answers[name] if name in answers or store is None else store.get(name) for name in names]
    return np.stack(rows).astype(np.float32, copy=False) if rows else np.zeros((0, 0), np.float32), len(answers)
