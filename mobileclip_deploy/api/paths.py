"""How paths are taken."""

from __future__ import annotations

from os import PathLike

__all__ = ["StrPath"]

StrPath = str | PathLike[str]
