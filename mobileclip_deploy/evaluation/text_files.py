"""Text files of a dataset, read as UTF-8 line by line, so that what is wrong can be named by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mobileclip_deploy.errors import InvalidInput, first_problem
from mobileclip_deploy.evaluation.bad_rows import BadRows
from mobileclip_deploy.files import read_regular

__all__ = ["TABLE_BYTES", "parse_json", "read_lines", "read_text", "validated"]

M = TypeVar("M", bound=BaseModel)
# Of a list of classes or templates, and of a table or Karpathy's JSON (COCO's takes 144 MB).
LIST_BYTES, TABLE_BYTES = 16 << 20, 2 << 30


def read_lines(path: Path, bad: BadRows, limit: int = LIST_BYTES) -> list[tuple[int, str]]:
    """Numbered lines (from 1) that are not blank, without their ends; a byte order mark is left out.

    Raises:
        InvalidInput: the file cannot be read or is larger than `limit` bytes, or a line is not UTF-8 (unless bad rows
            are skipped).
    """
    lines = []
    for number, raw in enumerate(_read_bytes(path, limit).removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad.add(f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})")
            continue
        if text.strip():
            lines.append((number, text))
    return lines


def read_text(path: Path, limit: int = LIST_BYTES) -> str:
    """A whole file.

    Raises:
        InvalidInput: it cannot be read, is larger than `limit` bytes, or is not UTF-8.
    """
    try:
        return _read_bytes(path, limit).removeprefix(b"\xef\xbb\xbf").decode("utf-8")
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


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        return read_regular(path, limit)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
