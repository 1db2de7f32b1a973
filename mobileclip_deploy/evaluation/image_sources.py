"""Where an image of a dataset is: a file of its own, or a stretch of an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import read_regular

__all__ = ["ArchiveImage", "Content", "ImageSource", "read_image"]


IMAGE_BYTES = 1 << 30


@dataclass(frozen=True)
class ArchiveImage:
    """A member of an uncompressed tar archive: `size` bytes from `offset` on."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclass(frozen=True)
class Content:
    """The bytes of a file that was read already, and what errors call it."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


ImageSource = Path | ArchiveImage | Content


def read_image(source: ImageSource) -> bytes:
    """The bytes of an image file.

    Raises:
        InvalidInput: they cannot be read.
    """
    try:
        if isinstance(source, Content):
            return source.content
        if isinstance(source, Path):
            return read_regular(source, IMAGE_BYTES)
        with source.archive.open("rb") as stream:
            stream.seek(source.offset)
            return stream.read(source.size)
    except FileNotFoundError:
        raise InvalidInput(f"{source}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"{source}: cannot be read ({error.strerror or error})") from error
