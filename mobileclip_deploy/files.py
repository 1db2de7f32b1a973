"""Files: hashes, and outputs that cannot be written refused before anything heavy runs."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.errors import UsageError

__all__ = ["artifact_bytes", "artifact_sha256", "check_bundle_destination", "check_file_destination", "file_sha256"]

PIECE = 1 << 20


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
