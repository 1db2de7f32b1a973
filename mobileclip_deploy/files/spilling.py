"""Tables that may grow beyond memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mobileclip_deploy.errors import DiskFull, InvalidInput

__all__ = ["spilling_database", "telling_of_room"]


def spilling_database(*tables: str) -> sqlite3.Connection:
    """A database of its own in a temporary file, of which about 2 MB stay in memory; nothing is left of it once it is
    closed. Threads may share it, one call at a time.

    Args:
        tables: what `CREATE TABLE` takes.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = OFF")  # nobody goes back in it
    for table in tables:
        database.execute(f"CREATE TABLE {table}")
    return database


@contextmanager
def telling_of_room() -> Iterator[None]:
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
