"""The parts of documents that a script writes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["replace_block"]


def replace_block(page: Path, begin: str, end: str, text: str) -> None:
    """Write `text` between the first `begin` of a page and the `end` after it."""
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    assert found, f"{page} has no {begin}"
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
