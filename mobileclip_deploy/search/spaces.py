"""Record of the bundle for each index and each embedding space, in the user's own cache. Writing an index updates it.

An index does not name its bundle: an index may come from somebody else, and the bundle it names would be opened.
"""

import time
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import cache_folder, content_sha256, write_whole
from mobileclip_deploy.base.files.staging import system_temporary
from mobileclip_deploy.errors import MobileClipDeployError, UsageError

DAY = 24 * 60 * 60
"""Seconds for which a bundle in the temporary folder is used: later, another bundle may be at its path."""


def remember(space: str, bundle: Path, index: Path) -> None:
    """Records a bundle as the one for an index and its space. If the cache cannot be written, nothing is recorded."""
    try:
        for note in (_note(space, index), _note(space)):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_whole(note, str(bundle.absolute()))
    except (OSError, MobileClipDeployError):
        return  # a convenience: `bundle` can be given


def bundle_of_space(space: str, index: Path) -> Bundle:
    """Returns the recorded bundle of an index; without one, of its space.

    Raises:
        UsageError: no bundle is recorded, it is gone or of another space, or it is in the temporary folder and was
            recorded more than a day ago.
    """
    message = f"no bundle is known that embeds the query; name one of the embedding space {space} with `bundle='PATH'`"
    note = _note(space, index)
    note = note if note.is_file() else _note(space)
    try:
        path, age = Path(note.read_text(encoding="utf-8")), time.time() - note.stat().st_mtime
    except (OSError, ValueError):
        raise UsageError(message) from None
    if age > DAY and path.is_relative_to(system_temporary().absolute()):
        raise UsageError(message)
    try:
        bundle = Bundle.of(path)
    except MobileClipDeployError:
        raise UsageError(message) from None
    if bundle.manifest.embedding_space != space:
        raise UsageError(message)
    return bundle


def _note(space: str, index: Path | None = None) -> Path:
    key = space if index is None else f"{space} {index.absolute()}"
    return cache_folder("spaces") / content_sha256(key.encode(errors="surrogateescape"))[:32]
