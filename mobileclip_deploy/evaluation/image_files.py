"""Images as a user names them: files, folders, and patterns for the shells that leave those to the program."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.model.preprocessing import image_files

__all__ = ["find_images"]


def find_images(sources: Sequence[Path]) -> list[Path]:
    """Image files, each once, in order: those named, those of folders (to the bottom) and those that fit a pattern.

    A file that is missing or no image is left to whoever reads it.

    Raises:
        InvalidInput: nothing is named, a folder holds no image, or nothing fits a pattern.
    """
    if not sources:
        raise InvalidInput("no images were given")
    return list(dict.fromkeys(file for source in sources for path in _matching(source) for file in _files(path)))


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
    found = image_files(path)
    if not found:
        raise InvalidInput(f"{path} holds no images")
    yield from found
