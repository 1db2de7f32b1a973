"""The parts of documents that a script writes, and the rows of figures that it measured before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["kept_rows", "replace_block"]


def kept_rows(results: Path) -> list[dict[str, Any]]:
    """The rows that were measured before; none where there is no such file."""
    found: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.exists() else []
    return found


def replace_block(page: Path, begin: str, end: str, text: str) -> None:
    """Write `text` between the first `begin` of a page and the `end` after it."""
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    assert found, f"{page} has no {begin}"
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
