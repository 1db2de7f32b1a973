"""Images as a user names them: files, folders, and patterns for the shells that leave those to the program."""

from __future__ import annotations

import glob
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mobileclip_deploy.errors import DiskFull, InvalidInput
from mobileclip_deploy.network.model.image_files import walk_images

log = logging.getLogger(__name__)


class ImageListing(AbstractContextManager["ImageListing"]):
    """Image files, each once, in order: those named, those of folders (to the bottom) and those that fit a pattern. Any
    number takes the same memory. To be closed.

    They are listed once, when this is made, and may be gone through often: a file that comes later is not among them.
    One that is missing or no image is left to whoever reads it.

    Raises:
        InvalidInput: nothing is named, a folder holds no image, nothing fits a pattern, or there is no room for a list.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        if not sources:
            raise InvalidInput("no images were given")
        # In a temporary file, of which about 2 MB stay in memory and nothing is left once it is closed.
        self._found = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._found.execute("PRAGMA journal_mode = OFF")  # nobody goes back in it
        self._found.execute("CREATE TABLE found (path BLOB PRIMARY KEY, place INTEGER, parts BLOB) WITHOUT ROWID")
        try:
            paths = (path for source in sources for path in _matching(source))
            with _telling_of_room():
                for place, path in enumerate(paths):
                    self._found.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?)", _rows(place, path))
                (self._count,) = self._found.execute("SELECT count(*) FROM found").fetchone()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return int(self._count)

    def __iter__(self) -> Iterator[Path]:
        with _telling_of_room():
            for (path,) in self._found.execute("SELECT path FROM found ORDER BY place, parts"):
                yield Path(os.fsdecode(path))

    def close(self) -> None:
        """Leave nothing of the list."""
        self._found.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(place: int, path: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """What is kept of the files at one place that was named. Ordered by `parts` they stand as paths are sorted, folder
    by folder, and not as texts, in which `a.b` comes before `a/b`."""
    for file in _files(path):
        yield os.fsencode(file), place, b"\0".join(os.fsencode(os.path.normcase(part)) for part in file.parts)


def _matching(source: Path) -> list[Path]:
    text = str(source)
    if not glob.has_magic(text) or source.exists():
        return [source]
    found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
    if not found:
        raise InvalidInput(f"{source}: no file fits this pattern")
    return found


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    empty, left_out = True, Counter[str]()
    for file in walk_images(path, left_out):
        empty = False
        yield file
    if left_out:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(left_out.items()))
        log.warning("note: %s: left out of this folder: %s; convert them to JPEG or PNG", path, kinds)
    if empty:
        raise InvalidInput(f"{path} holds no images")


@contextmanager
def _telling_of_room() -> Iterator[None]:
    """What such a database is refused, in one line.

    Raises:
        InvalidInput: the temporary folder cannot be written, or is full (`DiskFull`).
    """
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DiskFull("temporary files") from error
        raise InvalidInput("a temporary file cannot be used; set TMPDIR to a folder that can") from error
