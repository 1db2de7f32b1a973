"""A bundle is whole or absent: it is written beside its place, and renamed when it is complete."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.bundle.manifest import MANIFEST
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import check_bundle_destination

__all__ = ["staged_bundle"]


@contextlib.contextmanager
def staged_bundle(path: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    What a killed process left behind is removed on the next export of the same bundle.

    Raises:
        UsageError: see `check_bundle_destination`.
    """
    _recover(path)
    check_bundle_destination(path, MANIFEST, force)
    absent = [folder for folder in path.absolute().parents if not folder.exists()]
    staging = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another output with -o") from error
        yield staging
        _take_place(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in absent:  # of a failed export not even the folders above it stay
            with contextlib.suppress(OSError):
                folder.rmdir()


def _take_place(staging: Path, path: Path) -> None:
    replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"
    try:
        if path.exists():
            path.rename(replaced)
        staging.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _recover(path: Path) -> None:
    """Clear away what a killed export left; a bundle that it had set aside and not yet replaced comes back."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*-*"):
        pid = folder.name.rpartition("-")[2]
        if not pid.isdigit() or _alive(int(pid)):
            continue
        if ".replaced-" in folder.name and not path.exists():
            folder.rename(path)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
