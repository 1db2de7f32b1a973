"""Text files of a dataset, read as UTF-8 line by line, so that what is wrong can be named by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mobileclip_deploy.errors import InvalidInput, first_problem
from mobileclip_deploy.evaluation.bad_rows import BadRows

__all__ = ["parse_json", "read_lines", "read_text", "validated"]

M = TypeVar("M", bound=BaseModel)


def read_lines(path: Path, bad: BadRows) -> list[tuple[int, str]]:
    """Numbered lines (from 1) that are not blank, without their ends; a byte order mark is left out.

    Raises:
        InvalidInput: the file cannot be read, or a line is not UTF-8 (unless bad rows are skipped).
    """
    lines = []
    for number, raw in enumerate(_read_bytes(path).removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad.add(f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})")
            continue
        if text.strip():
            lines.append((number, text))
    return lines


def read_text(path: Path) -> str:
    """A whole file.

    Raises:
        InvalidInput: it cannot be read, or is not UTF-8.
    """
    try:
        return _read_bytes(path).removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}") from error


def parse_json(where: Path | str, text: str) -> Any:
    """A JSON value.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is not JSON: {error}") from error


def validated(kind: type[M], where: Path | str, value: Any) -> M:
    """A JSON value as what it is expected to be.

    Raises:
        InvalidInput: a field is missing or of another type.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(f"{where}: {first_problem(error)}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
