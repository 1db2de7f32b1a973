"""A bundle is whole or absent: it is written beside its place, and renamed when it is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from mobileclip_deploy.bundle.manifest import MANIFEST
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import check_bundle_destination, replacing
from mobileclip_deploy.files.leftovers import clear_leftovers

__all__ = ["staged_bundle"]


@contextlib.contextmanager
def staged_bundle(path: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    What killed processes left in the folder is removed first.

    Raises:
        UsageError: see `check_bundle_destination`.
    """
    clear_leftovers(path.parent)  # a bundle that a killed export had set aside is back before it is asked for
    check_bundle_destination(path, MANIFEST, force)
    absent = [folder for folder in path.absolute().parents if not folder.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, absent)  # of a failed export not even the folders above it stay
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = stack.enter_context(replacing(path))
            staging.mkdir()
        except OSError as error:
            reason = f"{path} cannot be written ({error.strerror})"
            raise UsageError(f"{reason}; choose another output with `output`") from error
        yield staging


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
