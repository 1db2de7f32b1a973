"""Members of tar archives that others made: read where they lie, never unpacked."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput

__all__ = ["first_bytes", "is_plain", "members"]


def members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """All members of an uncompressed archive but folders, in their order, each with the open archive.

    Raises:
        InvalidInput: no regular file, or no readable archive.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is not a regular file")
    with _readable(path), tarfile.open(path, "r:") as archive:
        for member in archive:
            if not member.isdir():
                yield archive, member


def is_plain(member: tarfile.TarInfo) -> bool:
    """Whether it is a file whose bytes stand in the archive: no link, device or sparse file."""
    return member.isreg() and not member.issparse()


def first_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes:
    """The first `limit` bytes of a plain member.

    Raises:
        InvalidInput: the archive ends before them.
    """
    with _readable(Path(str(archive.name))):
        stream = archive.extractfile(member)
        return b"" if stream is None else stream.read(limit)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    # What damaged headers make of the reader: sizes and offsets in them are too large for a number or for the memory.
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise InvalidInput(f"{path} is not a readable tar archive: {' '.join(str(error).split())}") from error
