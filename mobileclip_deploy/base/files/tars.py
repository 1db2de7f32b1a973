"""Members of tar archives that others made: read where they lie, never unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mobileclip_deploy.errors import WHY, InvalidInput, refusing

BLOCK = 512
NAME_BYTES = 100


@dataclass(frozen=True)
class Extent:
    """A member of a tar: `size` bytes from `offset` on."""

    offset: int
    size: int


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """All members of an uncompressed archive but folders, in their order.

    Raises:
        InvalidInput: no regular file, or no readable archive.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is not a regular file")
    # What damaged headers make of the reader: sizes and offsets in them are too large for a number or for the memory.
    kinds = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError)
    with refusing(f"{path} is not a readable tar archive", *kinds), tarfile.open(path, "r:") as archive:
        yield from (member for member in archive if not member.isdir())


def is_plain(member: tarfile.TarInfo) -> bool:
    """Whether it is a file whose bytes stand in the archive: no link, device or sparse file."""
    return member.isreg() and not member.issparse()


def scan(shard: Path) -> dict[str, dict[str, Extent]]:
    """The members of a shard as webdataset groups them: by what stands before the first dot of their file name, then by
    what stands behind it.

    Raises:
        InvalidInput: no readable tar, or a member that is no plain file, leaves the folder, or is there twice.
    """
    samples: dict[str, dict[str, Extent]] = {}
    for member in members(shard):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput(f"{shard}: {member.name!r} would leave the folder; leave the shard out")
        if not is_plain(member):
            raise InvalidInput(f"{shard}: {member.name!r} is a link or a special file; leave the shard out")
        stem, _, suffix = path.name.partition(".")
        parts = samples.setdefault((path.parent / stem).as_posix(), {})
        if suffix in parts:
            raise InvalidInput(f"{shard} holds {member.name!r} twice; leave the shard out")
        parts[suffix] = Extent(member.offset_data, member.size)
    return samples


def read_extent(shard: Path, extent: Extent, limit: int) -> bytes:
    """The bytes of a member.

    Raises:
        InvalidInput: more than `limit`, or they cannot be read.
    """
    if extent.size > limit:
        raise InvalidInput(f"{shard}: {member_name(shard, extent)} has {extent.size:,} bytes, more than {limit:,}")
    told = f"{shard} cannot be read ({WHY}); is its disk still there?"
    with refusing(told, OSError), shard.open("rb") as stream:
        stream.seek(extent.offset)
        content = stream.read(extent.size)
    if len(content) < extent.size:
        raise InvalidInput(f"{shard} has become shorter while it was read; download it again")
    return content


def member_name(shard: Path, extent: Extent) -> str:
    """The first hundred bytes of a member's name, for messages: they stand in the block before its content."""
    try:
        with shard.open("rb") as stream:
            stream.seek(extent.offset - BLOCK)
            return stream.read(NAME_BYTES).split(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        return "a member"
