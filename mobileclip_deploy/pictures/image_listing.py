"""Images that a user names: files, folders, and patterns, for shells that do not expand them."""

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
    """Image files, each once, in order: named files, those of folders (recursively) and those that match a pattern.

    Memory use does not grow with their number. Must be closed. Files are listed once, on creation, and can be iterated
    often: a later file is not included. A missing file or one that is not an image is left to the reader.

    Raises:
        InvalidInput: nothing is named, a folder has no image, nothing matches a pattern, or the disk is full.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        if not sources:
            raise InvalidInput("no images were given")
        # A temporary file: about 2 MB of it stay in memory, and closing deletes it.
        self._found = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._found.execute("PRAGMA journal_mode = OFF")  # nothing is rolled back
        self._found.execute("CREATE TABLE found (path BLOB PRIMARY KEY, place INTEGER, parts BLOB) WITHOUT ROWID")
        try:
            paths = (path for source in sources for path in _matching(source))
            with _telling_of_room():
                for position, path in enumerate(paths):
                    self._found.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?)", _rows(position, path))
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
        """Deletes the list."""
        self._found.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(place: int, path: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """Yields the rows of the files of one source. `parts` sorts them as paths, folder by folder, and not as texts,
    where `a.b` comes before `a/b`."""
    for file in _files(path):
        yield os.fsencode(file), place, b"\0".join(os.fsencode(os.path.normcase(part)) for part in file.parts)


def _matching(source: Path) -> list[Path]:
    text = str(source)
    if not glob.has_magic(text) or source.exists():
        return [source]
    matches = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
    if not matches:
        raise InvalidInput(f"{source}: no file fits this pattern")
    return matches


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
    """Re-raises SQLite's errors on the temporary database in one line.

    Raises:
        InvalidInput: the temporary folder cannot be written, or is full (`DiskFull`).
    """
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DiskFull("temporary files") from error
        raise InvalidInput("a temporary file cannot be used; set TMPDIR to a folder that can") from error
