"""Telling a user what is being done."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str], None]
"""Told what starts next, in a few words."""


def silent(_: str) -> None:
    """No progress."""
