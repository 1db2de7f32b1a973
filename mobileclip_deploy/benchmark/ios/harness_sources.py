"""Where the Swift sources are, and where what is built from them is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mobileclip_deploy.errors import RuntimeFailed

__all__ = ["build_folder", "harness_sources"]


def harness_sources() -> Path:
    """The folder ios_harness: beside the modules in a wheel, at the top of the repository in a checkout.

    Raises:
        RuntimeFailed: this installation came without it.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "ios_harness", package.parent / "ios_harness"):
        if (folder / "HarnessCore" / "Package.swift").is_file():
            return folder
    raise RuntimeFailed("the Swift harness is not part of this installation; install mobileclip-deploy from its wheel")


def build_folder(name: str) -> Path:
    """A folder for build products that survives between runs, outside of the sources."""
    base = Path.home() / "Library" / "Caches" if sys.platform == "darwin" else None
    cache = base or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mobileclip-deploy" / name
