"""Files: early refusals of outputs that cannot be written, atomic writes, bounded reads, and hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from mobileclip_deploy.base.files.json_text import RepeatedKey, check_keys, parse_json
from mobileclip_deploy.base.files.staging import StagingLock, claimed, clear_leftovers, remove, system_temporary
from mobileclip_deploy.base.files.system import READ, rename
from mobileclip_deploy.base.files.writers import publish, publish_folder
from mobileclip_deploy.errors import (
    DiskFull,
    InvalidInput,
    Malformed,
    UsageError,
    first_problem,
    no_room,
    readable_reason,
    reraising,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

PIECE = 1 << 20
# Limit above the size of any manifest, recipe, index or configuration: class names of ImageNet-21k take 0.5 MB.
SETTINGS_BYTES = 4 << 20
SETTINGS_ITEMS = 200_000
# Limit of a .safetensors file's header (names, shapes, metadata): that of a published checkpoint takes 0.2 MB.
HEADER_BYTES = 16 << 20

M = TypeVar("M", bound="BaseModel")
StrPath = str | PathLike[str]
"""Type of the paths that public functions take."""


def optional_path(path: StrPath | None) -> Path | None:
    """Converts a path to `Path`. None stays None."""
    return None if path is None else Path(path)


def paths(given: StrPath | Iterable[StrPath]) -> tuple[Path, ...]:
    """Converts one path or several to a tuple."""
    return (Path(given),) if isinstance(given, str | PathLike) else tuple(map(Path, given))


def check_there(path: Path) -> None:
    """Refuses a path where nothing exists.

    Raises:
        InvalidInput: nothing exists there.
    """
    if not path.exists():
        raise InvalidInput(f"no file or folder at {path}")


def check_bundle_destination(path: Path, marker: str, force: bool) -> None:
    """Checks that a bundle's folder can be written; `marker` is the file that distinguishes a bundle from other
    folders.

    Raises:
        UsageError: it exists and `force` is not given, is not a bundle, or its folder is a file or not writable.
    """
    clear_leftovers(path.parent)
    with _refusals(path):
        if path.is_symlink() or path.is_file():
            raise UsageError(f"{path} exists and is not a folder; choose another output with `output`")
        if path.is_dir():
            if any(path.iterdir()) and not (path / marker).is_file():
                raise UsageError(f"{path} exists and is not a bundle; choose another output with `output`")
            if not force:
                raise UsageError(f"{path} exists; replace it with `force=True`, or choose another output with `output`")
        _check_parent(path)


def check_output_folder(folder: Path) -> None:
    """Checks that bundles can be written in a folder, which need not exist yet.

    Raises:
        UsageError: it or a folder above it is a file or not writable.
    """
    with _refusals(folder):
        _check_parent(folder / "bundle")


def check_file_destination(path: Path, force: bool, option: str = "output") -> None:
    """Checks that a file can be written; `option` is the option that names it.

    Raises:
        UsageError: it exists and `force` is not given, is a folder, or its folder is a file or not writable.
    """
    clear_leftovers(path.parent)
    with _refusals(path, option):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the file to write")
        if path.exists() and not force:
            raise UsageError(f"{path} exists; replace it with `force=True`, or choose another output with `{option}`")
        _check_parent(path, option)


def _check_parent(path: Path, option: str = "output") -> None:
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UsageError(f"{parent} is a file, so nothing can be written in it; choose another output with `{option}`")
    # Creates a file, because os.access is True for root on /proc. On Linux the file has no name: a kill leaves nothing.
    with tempfile.TemporaryFile(dir=parent):
        pass


@contextlib.contextmanager
def _refusals(path: Path, option: str = "output") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{path} is not writable ({error.strerror})"
        raise UsageError(f"{reason}; choose another output with `{option}`") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path next to `path`, for a file or a folder that replaces `path` if the block succeeds.

    If the block fails, its output is removed and `path` stays as it was. A file is synced to disk before it replaces
    `path`, so that a power cut leaves the old file or the new one, whole. The folder of `path` must exist. Leftovers of
    killed processes in it are removed first. Two processes may write the same path at the same time, and the later one
    wins, unless the output has one writer (`sole_writer`).

    Raises:
        UsageError: the path is of a new output, and something has appeared there (`sole_writer`).
        DiskFull: no room is left, there or for temporary files.
        OSError: the path cannot be written; FileNotFoundError if the block wrote nothing.
    """
    clear_leftovers(path.parent)
    with _room(path), claimed(path) as claim:
        yield claim.partial
        if claim.partial.is_dir():
            _take_place_of_folder(claim)
        else:
            with claim.partial.open("r+b") as stream:  # Windows does not sync files opened for reading
                os.fsync(stream.fileno())
            publish(claim)


@contextlib.contextmanager
def _room(path: Path) -> Iterator[None]:
    """Re-raises any exception for want of disk space, from any library, as `DiskFull`."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if _is_full(path.parent):
            raise DiskFull(str(path.parent)) from error
        if _is_full(system_temporary()):
            raise DiskFull(f"{system_temporary()} (TMPDIR)") from error
        if no_room(error):
            raise DiskFull(str(path.parent)) from error
        raise


def _is_full(folder: StrPath) -> bool:
    """Returns whether a disk has less room than one piece. Used after a failure: torch only reports that it could not
    write."""
    try:
        return shutil.disk_usage(folder).free < PIECE
    except OSError:
        return False


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file through `replacing`; a text as UTF-8, without changing its line ends."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _take_place_of_folder(claim: StagingLock) -> None:
    # A rename replaces a file in one step, but not a folder with content: the old one is set aside first.
    path, replaced = claim.path, claim.replaced
    if publish_folder(claim):
        return
    try:
        if path.exists():
            rename(path, replaced)
        rename(claim.partial, path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
    remove(replaced)


def link_or_copy(source: str, destination: str) -> None:
    """Makes a hard link, which keeps the current file even if its path is overwritten; copies to another file
    system."""
    try:
        os.link(os.path.realpath(source), destination)
    except OSError:
        shutil.copy2(source, destination)


def read_regular(path: Path, limit: int = SETTINGS_BYTES) -> bytes:
    """Reads the bytes of a regular file. Does not block on a pipe, and does not read a larger file.

    Raises:
        InvalidInput: it is not a regular file, or larger than `limit` bytes.
        OSError: it cannot be opened.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        # `read` allocates as many bytes as requested: so the file's size is requested, and not the limit.
        content = b"" if size > limit else stream.read(size + 1)
        while size < len(content) <= limit and (more := stream.read(PIECE)):  # it grew, or its size is unknown
            content += more
        if max(size, len(content)) > limit:
            raise InvalidInput(f"{path} is larger than the limit for such a file ({limit:,} bytes)")
        return content


def read_json(path: Path, limit: int = SETTINGS_BYTES) -> Any:
    """Reads the value of a JSON file with settings, as UTF-8.

    Raises:
        InvalidInput: as `read_regular`, or it has more than `SETTINGS_ITEMS` items.
        ValueError: it is not JSON, not UTF-8, nested too deeply, or has a key twice, half a character or a number of
            thousands of digits.
        OSError: it cannot be opened.
    """
    return json_value(path, read_regular(path, limit).decode("utf-8"))


def read_model(kind: type[M], path: Path, missing: str | None = None, advice: str = "") -> M:
    """Reads a JSON file as its pydantic model.

    Args:
        missing: error text if there is no such file.
        advice: end of the error text.

    Raises:
        InvalidInput: missing, damaged, or another document.
    """
    from pydantic import ValidationError  # slow to import; `--help` does not need it

    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise InvalidInput(f"{path}: {first_problem(error)}{advice}") from error
    except (OSError, ValueError) as error:
        absent = missing if isinstance(error, FileNotFoundError) else None
        raise InvalidInput(absent or f"{path} cannot be read: {readable_reason(error)}{advice}") from error


def json_value(where: Path | str, content: str) -> Any:
    """Parses a JSON text with settings. Raises as `read_json`."""
    check_items(where, content, SETTINGS_ITEMS)
    try:
        value = parse_json(content)
    except RecursionError:
        raise Malformed("nested too deeply") from None
    # Half a character cannot be encoded, so it could not be written again.
    if "\\ud" in content.lower() and re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)):
        raise Malformed("it contains half a surrogate pair")
    return value


def check_items(where: Path | str, text: str, most: int) -> None:
    """Checks that a JSON text has at most `most` items, before they are parsed.

    A parsed list takes 50 times the memory of its two characters, and pydantic keeps an error for each invalid value.

    Raises:
        InvalidInput: it has more lists, objects and values after a comma than `most`.
    """
    if text.count(",") + text.count("[") + text.count("{") > most:
        raise InvalidInput(f"{where} has more items than the limit for such a file ({most:,})")


def check_tensors(path: Path) -> None:
    """Checks that a .safetensors file is safe to open: a regular file, with a header of reasonable size and no name
    twice.

    Raises:
        InvalidInput: it is not. safetensors itself reports other damage.
        OSError: it cannot be opened.
    """
    with open_regular(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_BYTES:
            raise InvalidInput(
                f"{path} is not a valid safetensors file: its header is larger than {HEADER_BYTES:,} bytes"
            )
        with reraising(f"{path} is not a valid safetensors file", RepeatedKey):
            check_keys(stream.read(length))


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading. Does not block on a pipe.

    Raises:
        InvalidInput: it is not a regular file.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, READ)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise InvalidInput(f"{path} is not a regular file")


def content_sha256(content: bytes) -> str:
    """Returns the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artifact_bytes(path: Path) -> int:
    """Returns the size of a file, or of all files in a package."""
    return sum(file.stat().st_size for file in files_of(path))


def artifact_sha256(path: Path) -> str:
    """Returns the hash of a file; for a package, the hash over its files' relative names and hashes in order."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in files_of(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def files_of(path: Path) -> list[Path]:
    """Returns a file, or all files in a package, sorted."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def cache_folder(name: str) -> Path:
    """Returns this user's cache folder by the system's convention; it may not exist yet."""
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
        cache = Path(os.environ.get(variable) or Path.home() / ".cache")
    return cache / "mobileclip-deploy" / name
