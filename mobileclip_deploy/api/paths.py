"""How paths and bundles are taken."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from mobileclip_deploy.bundle import Bundle

__all__ = ["StrPath", "opened"]

StrPath = str | PathLike[str]


def opened(bundle: Bundle | StrPath) -> Bundle:
    """A bundle as it is, or the one in a folder, read and checked.

    Raises:
        InvalidInput: the folder holds none, or a damaged one.
    """
    return bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
