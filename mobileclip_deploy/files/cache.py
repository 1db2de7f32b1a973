"""Where what is built or fetched once is kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """A folder of this user that survives between runs, as the system has it; it may not exist yet."""
    base = Path.home() / "Library" / "Caches" if sys.platform == "darwin" else None
    cache = base or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mobileclip-deploy" / name
