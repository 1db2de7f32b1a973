"""Paths and texts that others wrote down: a path stays below its folder, a text can be shown."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from mobileclip_deploy.errors import InvalidInput, Malformed, refusing

LONGEST_PART, LONGEST_TEXT = 200, 1000
INDEX_SUFFIX = ".mcdx"
"""Suffix of an index of embeddings."""


def plain_text(text: str) -> str:
    """The text, if it is of one line and no character in it is invisible.

    Raises:
        ValueError: it is not, or longer than any name or sentence.
    """
    if len(text) > LONGEST_TEXT:
        raise Malformed(f"{text[:40]!r}... has more than {LONGEST_TEXT:,} characters")
    if not text.isprintable():
        raise Malformed(f"{text[:60]!r} holds a character that cannot be shown")
    return text


def plain_path(file: str) -> str:
    """The path, if it is relative, leads nowhere but down, and names no hidden file, on any system.

    Raises:
        ValueError: it is none.
    """
    path = PurePosixPath(plain_text(file))
    plain = file == path.as_posix() and not path.is_absolute() and not {"\\", ":"} & set(file)
    if not plain or not path.parts or any(part[0] == "." or len(part) > LONGEST_PART for part in path.parts):
        raise Malformed(f"{file[:60]!r} is no plain path inside a bundle")
    return file


PlainText = Annotated[str, AfterValidator(plain_text)]
PlainPath = Annotated[str, AfterValidator(plain_path)]


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path stays below a folder when the links in both are followed; OSError or RuntimeError where they lead
    nowhere or in a circle."""
    return folder.resolve() in path.resolve().parents


def within(folder: Path, name: str) -> Path:
    """What is called so below a folder; the links in its path are followed.

    Raises:
        InvalidInput: it is not below the folder, or its place cannot be found.
    """
    path = folder / name
    # Links in a circle, a name that is none.
    with refusing(f"{folder}: a file of it cannot be found", OSError, RuntimeError, ValueError):
        inside = is_below(path, folder)
    if not inside:
        raise InvalidInput(f"{folder}: {name[:60]!r} points outside the folder; ask whoever wrote that name")
    return path
