"""Files: outputs that cannot be written refused before anything heavy runs, written whole or not at all; hashes."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from mobileclip_deploy.errors import UsageError

__all__ = [
    "StrPath",
    "artifact_bytes",
    "artifact_sha256",
    "check_bundle_destination",
    "check_file_destination",
    "clear_leftovers",
    "file_sha256",
    "optional_path",
    "replacing",
    "write_whole",
]

PIECE = 1 << 20

StrPath = str | PathLike[str]
"""How public functions take a path."""


def optional_path(path: StrPath | None) -> Path | None:
    """A path as it is used inside; None stays None."""
    return None if path is None else Path(path)


def check_bundle_destination(path: Path, marker: str, force: bool) -> None:
    """Whether a bundle's folder can be written; `marker` is the file that tells a bundle from other folders.

    Raises:
        UsageError: it exists and `force` is not given, is not a bundle, or its folder is a file or not writable.
    """
    with _refusals(path):
        if path.is_symlink() or path.is_file():
            raise UsageError(f"{path} exists and is not a folder; choose another output with -o")
        if path.is_dir():
            if any(path.iterdir()) and not (path / marker).is_file():
                raise UsageError(f"{path} exists and is not a bundle; choose another output with -o")
            if not force:
                raise UsageError(f"{path} exists; replace it with --force, or choose another output with -o")
        _check_parent(path)


def check_file_destination(path: Path, force: bool) -> None:
    """Whether a file can be written.

    Raises:
        UsageError: it exists and `force` is not given, is a folder, or its folder is a file or not writable.
    """
    with _refusals(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the file to write")
        if path.exists() and not force:
            raise UsageError(f"{path} exists; replace it with --force, or choose another output with -o")
        _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UsageError(f"{parent} is a file, so nothing can be written in it; choose another output with -o")
    # Tried rather than asked: os.access says yes to root on /proc.
    Path(tempfile.mkdtemp(dir=parent, prefix=".mobileclip-deploy-")).rmdir()


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} is not writable ({error.strerror}); choose another output with -o") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, to write a file or a folder at, that takes its place when the block ends well.

    When the block does not end well, what it wrote is removed and what was at `path` stays. A file is on the disk
    before it takes its place, so that a power cut leaves the old one or the new one, whole. The folder of `path` must
    exist. What a killed process left behind is removed when the same path is written again.

    Raises:
        OSError: the place cannot be written; FileNotFoundError if the block wrote nothing.
    """
    clear_leftovers(path)
    # The process is part of the name: two may write the same path at the same time, and the later one wins.
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    _remove(partial)
    try:
        yield partial
        if partial.is_dir():
            _take_place_of_folder(partial, path)
        else:
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(path)
    finally:
        _remove(partial)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file through `replacing`; a text as UTF-8, its line ends as they are."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def clear_leftovers(path: Path) -> None:
    """Remove what killed processes left beside `path`; what one had set aside and not yet replaced comes back."""
    for state in ("partial", "replaced"):
        for left in path.parent.glob(f".{glob.escape(path.name)}.{state}-*"):
            process = left.name.rpartition("-")[2]
            if not process.isdigit() or _is_running(int(process)):
                continue
            if state == "replaced" and not path.exists():
                left.rename(path)
            else:
                _remove(left)


def _take_place_of_folder(partial: Path, path: Path) -> None:
    # A rename replaces a file in one step but no folder that holds something: the old one is set aside first.
    replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"
    try:
        if path.exists():
            path.rename(replaced)
        partial.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
    _remove(replaced)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def artifact_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a package."""
    return sum(file.stat().st_size for file in _files(path))


def artifact_sha256(path: Path) -> str:
    """Hash of a file; of a package, the hash over its files' relative names and hashes in order."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
