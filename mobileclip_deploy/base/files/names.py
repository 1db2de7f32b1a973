"""Checks of paths, texts and fields in documents from others: a path stays below its folder, every text has a limit."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from mobileclip_deploy.errors import InvalidInput, Malformed, MobileClipDeployError, reraising

M = TypeVar("M", bound=BaseModel)
LONGEST_PART, LONGEST_TEXT = 200, 1000
LONGEST_PATH, LONGEST_PROSE = 4096, 20_000
INDEX_SUFFIX = ".mcdx"
"""Suffix of an index of embeddings."""
LOCK_SUFFIX = ".lock.json"
"""Suffix of a lock of published bundles."""


def plain_text(text: str) -> str:
    """Returns the text if it is one line without invisible characters.

    Raises:
        ValueError: it is not, or longer than any name or sentence.
    """
    if len(text) > LONGEST_TEXT:
        raise Malformed(f"{text[:40]!r}... has more than {LONGEST_TEXT:,} characters")
    if not text.isprintable():
        raise Malformed(f"{text[:60]!r} contains an unprintable character")
    return text


def plain_path(file: str) -> str:
    """Returns the path if it is relative, leads only downward, and names no hidden file, on any system.

    No part of it can be mistaken for a command's option.

    Raises:
        ValueError: it is not such a path.
    """
    path = PurePosixPath(plain_text(file))
    plain = file == path.as_posix() and not path.is_absolute() and not {"\\", ":"} & set(file)
    if not plain or not path.parts or any(part[0] in ".-" or len(part) > LONGEST_PART for part in path.parts):
        raise Malformed(f"{file[:60]!r} is not a plain path inside a bundle")
    return file


PlainText = Annotated[str, AfterValidator(plain_text)]
PlainPath = Annotated[str, AfterValidator(plain_path)]


def _shortened(text: Any) -> Any:
    too_long = isinstance(text, str) and len(text) > LONGEST_PROSE
    return f"{text[: LONGEST_PROSE - 4]} ..." if too_long else text


Name = Annotated[str, Field(max_length=LONGEST_TEXT)]
"""Name, word or id in a document. A longer one is refused."""
LongPath = Annotated[str, Field(max_length=LONGEST_PATH)]
"""Path or address, up to the longest that systems allow."""
Prose = Annotated[str, BeforeValidator(_shortened), Field(max_length=LONGEST_PROSE)]
"""Sentences for a reader. Longer ones are cut: an error of thousands of names must not make a report unreadable."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Name of a Python package, safe in a requirements file."""
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!_-]{0,99}$")]
"""Version of a package, safe in a requirements file: no blank, no line end, no path, no URL."""


class RowError(BaseModel, frozen=True):
    """Reason why a cell has no bundle, or its bundle no latency: as `MobileClipDeployError.as_dict`."""

    kind: Name
    message: Prose
    remedy: Prose | None
    exit_code: int

    @classmethod
    def of(cls, error: MobileClipDeployError) -> RowError:
        return cls.model_validate(error.as_dict())


def with_fields(model: M, **fields: Any) -> M:
    """Copies a model with some fields replaced, and validates all of them, which `model_copy` does not.

    Raises:
        ValidationError: a value does not fit its field.
    """
    return type(model).model_validate(dict(model) | fields)


def is_below(path: Path, folder: Path) -> bool:
    """Returns whether a path is below a folder after links in both are resolved.

    Raises OSError or RuntimeError for links that lead nowhere or in a circle.
    """
    return folder.resolve() in path.resolve().parents


def within(folder: Path, name: str) -> Path:
    """Returns the path of a name below a folder, and checks it with links resolved.

    Raises:
        InvalidInput: it is not below the folder, or cannot be resolved.
    """
    path = folder / name
    # For links in a circle and invalid names.
    with reraising(f"{folder}: one of its files cannot be found", OSError, RuntimeError, ValueError):
        inside = is_below(path, folder)
    if not inside:
        raise InvalidInput(f"{folder}: {name[:60]!r} points outside the folder; correct the file that names it")
    return path
