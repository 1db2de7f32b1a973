"""Members of tar archives from others: read inside the archive, never unpacked."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mobileclip_deploy.errors import REASON, InvalidInput, reraising

BLOCK = 512
NAME_BYTES = 100


@dataclass(frozen=True)
class Extent:
    """Byte range of a member in a tar: `size` bytes from `offset` on."""

    offset: int
    size: int


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yields all members of an uncompressed archive except folders, in order.

    Raises:
        InvalidInput: not a regular file, or not a readable archive.
    """
    if not path.is_file():
        raise InvalidInput(f"{path} is not a regular file")
    # Errors of the reader for damaged headers, whose sizes and offsets may be too large for an integer or for memory.
    kinds = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError)
    with reraising(f"{path} is not a readable tar archive", *kinds), tarfile.open(path, "r:") as archive:
        yield from (member for member in archive if not member.isdir())


def is_plain(member: tarfile.TarInfo) -> bool:
    """Returns whether a member is a file with its bytes in the archive: not a link, device or sparse file."""
    return member.isreg() and not member.issparse()


def scan(shard: Path) -> dict[str, dict[str, Extent]]:
    """Groups the members of a shard as webdataset does: by their file name up to its first dot, then by the rest.

    Raises:
        InvalidInput: not a readable tar, or a member that is not a plain file, leaves the folder, or exists twice.
    """
    samples: dict[str, dict[str, Extent]] = {}
    for member in members(shard):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidInput(f"{shard}: {member.name!r} points outside the folder; leave the shard out")
        if not is_plain(member):
            raise InvalidInput(f"{shard}: {member.name!r} is a link or a special file; leave the shard out")
        stem, _, suffix = path.name.partition(".")
        parts = samples.setdefault((path.parent / stem).as_posix(), {})
        if suffix in parts:
            raise InvalidInput(f"{shard} holds {member.name!r} twice; leave the shard out")
        parts[suffix] = Extent(member.offset_data, member.size)
    return samples


def read_extent(shard: Path, extent: Extent, limit: int) -> bytes:
    """Reads the bytes of a member.

    Raises:
        InvalidInput: more than `limit`, or they cannot be read.
    """
    if extent.size > limit:
        raise InvalidInput(f"{shard}: {member_name(shard, extent)} has {extent.size:,} bytes, more than {limit:,}")
    message = f"{shard} cannot be read ({REASON}); is its disk still there?"
    with reraising(message, OSError), shard.open("rb") as stream:
        stream.seek(extent.offset)
        content = stream.read(extent.size)
    if len(content) < extent.size:
        raise InvalidInput(f"{shard} was truncated while it was read; download it again")
    return content


def member_name(shard: Path, extent: Extent) -> str:
    """Returns the first hundred bytes of a member's name, for messages. They are in the block before its content."""
    try:
        with shard.open("rb") as stream:
            stream.seek(extent.offset - BLOCK)
            return stream.read(NAME_BYTES).split(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        return "a member"
