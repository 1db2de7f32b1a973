"""Telling a user what is being done."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "about", "silent"]

Progress = Callable[[str], None]
"""Told what starts next, in a few words."""


def about(subject: str, progress: Progress) -> Progress:
    """Progress that says what it is about: `subject: text`."""
    return lambda text: progress(f"{subject}: {text}")


def silent(_: str) -> None:
    """No progress."""
