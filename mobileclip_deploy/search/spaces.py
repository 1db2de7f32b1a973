"""Which bundle of this user's answers in an embedding space: noted when it writes an index, in the user's own cache.

An index names no bundle: it may come from somebody else, and what it names would be opened.
"""

from __future__ import annotations

import time
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import cache_folder, content_sha256, write_whole
from mobileclip_deploy.base.files.leftovers import system_temporary
from mobileclip_deploy.errors import MobileClipDeployError, UsageError

DAY = 24 * 60 * 60
"""Seconds for which a bundle in the temporary folder is asked: later, another one may be at its path."""


def remember(space: str, bundle: Path) -> None:
    """Note a bundle as the one that answers in a space. Where the cache cannot be written, nothing is noted."""
    note = _note(space)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, str(bundle.absolute()))
    except (OSError, MobileClipDeployError):
        return  # a convenience: `bundle` can be given


def bundle_of_space(space: str) -> Bundle:
    """The bundle that was noted.

    Raises:
        UsageError: none was, it is no longer there, answers in another space, or was in the temporary folder a day ago.
    """
    wanted = f"which bundle embeds the query is not known here; name one of the space {space} with `bundle='PATH'`"
    note = _note(space)
    try:
        path, age = Path(note.read_text(encoding="utf-8")), time.time() - note.stat().st_mtime
    except (OSError, ValueError):
        raise UsageError(wanted) from None
    if age > DAY and path.is_relative_to(system_temporary().absolute()):
        raise UsageError(wanted)
    try:
        bundle = Bundle.of(path)
    except MobileClipDeployError:
        raise UsageError(wanted) from None
    if bundle.manifest.embedding_space != space:
        raise UsageError(wanted)
    return bundle


def _note(space: str) -> Path:
    return cache_folder("spaces") / content_sha256(space.encode())[:32]
