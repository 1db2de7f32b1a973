"""Files: outputs that cannot be written refused before anything heavy runs, written whole or not at all; hashes."""

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
from mobileclip_deploy.base.files.leftovers import Claim, claimed, clear_leftovers, remove, system_temporary
from mobileclip_deploy.base.files.system import READ, rename
from mobileclip_deploy.base.files.writers import publish, publish_folder
from mobileclip_deploy.errors import (
    DiskFull,
    InvalidInput,
    Malformed,
    UsageError,
    first_problem,
    no_room,
    refusing,
    worded,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

PIECE = 1 << 20
# Above what any manifest, recipe, index or configuration holds: class names of ImageNet-21k take half a megabyte.
SETTINGS_BYTES = 4 << 20
SETTINGS_ITEMS = 200_000
# Names, shapes and metadata of a .safetensors file: those of a published checkpoint take 0.2 MB.
HEADER_BYTES = 16 << 20

M = TypeVar("M", bound="BaseModel")
StrPath = str | PathLike[str]
"""How public functions take a path."""


def optional_path(path: StrPath | None) -> Path | None:
    """A path as it is used inside; None stays None."""
    return None if path is None else Path(path)


def paths(given: StrPath | Iterable[StrPath]) -> tuple[Path, ...]:
    """One path or several, as public functions take them."""
    return (Path(given),) if isinstance(given, str | PathLike) else tuple(map(Path, given))


def check_there(path: Path) -> None:
    """Refuse a path at which there is nothing.

    Raises:
        InvalidInput: see there.
    """
    if not path.exists():
        raise InvalidInput(f"no file or folder at {path}")


def check_bundle_destination(path: Path, marker: str, force: bool) -> None:
    """Whether a bundle's folder can be written; `marker` is the file that tells a bundle from other folders.

    Raises:
        UsageError: it exists and `force` is not given, is not a bundle, or its folder is a file or not writable.
    """
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
    """Whether bundles can be written in a folder, which is made where it is not there.

    Raises:
        UsageError: it or a folder above it is a file or not writable.
    """
    with _refusals(folder):
        _check_parent(folder / "bundle")


def check_file_destination(path: Path, force: bool, option: str = "output") -> None:
    """Whether a file can be written; `option` is the one that names it.

    Raises:
        UsageError: it exists and `force` is not given, is a folder, or its folder is a file or not writable.
    """
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
    # Tried rather than asked: os.access says yes to root on /proc. Without a name on Linux: a kill leaves nothing.
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
    """A path beside `path`, to write a file or a folder at, that takes its place when the block ends well.

    When the block does not end well, what it wrote is removed and what was at `path` stays. A file is on the disk
    before it takes its place, so that a power cut leaves the old one or the new one, whole. The folder of `path` must
    exist. What killed processes left in it is removed first. Two may write the same path at the same time, and the
    later one wins, unless it is an output that has one writer (`sole_writer`).

    Raises:
        UsageError: the path is of a new output, and something has appeared there (`sole_writer`).
        DiskFull: no room is left, there or where temporary files are.
        OSError: the place cannot be written; FileNotFoundError if the block wrote nothing.
    """
    clear_leftovers(path.parent)
    with _room(path), claimed(path) as claim:
        yield claim.partial
        if claim.partial.is_dir():
            _take_place_of_folder(claim)
        else:
            with claim.partial.open("r+b") as stream:  # Windows syncs no file that was opened to be read
                os.fsync(stream.fileno())
            publish(claim)


@contextlib.contextmanager
def _room(path: Path) -> Iterator[None]:
    """Whatever the block raises for want of room, of whichever library, is told as that."""
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
    """Whether not a piece fits there. Asked where something failed: torch says only that it could not write."""
    try:
        return shutil.disk_usage(folder).free < PIECE
    except OSError:
        return False


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file through `replacing`; a text as UTF-8, its line ends as they are."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _take_place_of_folder(claim: Claim) -> None:
    # A rename replaces a file in one step but no folder that holds something: the old one is set aside first.
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
    """A hard link keeps the file as it is now, whatever is exported over it; another file system needs a copy."""
    try:
        os.link(os.path.realpath(source), destination)
    except OSError:
        shutil.copy2(source, destination)


def read_regular(path: Path, limit: int = SETTINGS_BYTES) -> bytes:
    """The bytes of a regular file. A pipe in its place is not waited for, and a larger file is not read.

    Raises:
        InvalidInput: it is something else than a file, or larger than `limit` bytes.
        OSError: it cannot be opened.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        # Python makes room for all that it is asked to read: for the file's size, then, and not for the limit.
        content = b"" if size > limit else stream.read(size + 1)
        while size < len(content) <= limit and (more := stream.read(PIECE)):  # it grew, or its size is not known
            content += more
        if max(size, len(content)) > limit:
            raise InvalidInput(f"{path} is larger than such a file can be ({limit:,} bytes)")
        return content


def read_json(path: Path, limit: int = SETTINGS_BYTES) -> Any:
    """The value in a JSON file of a few settings, read as UTF-8.

    Raises:
        InvalidInput: as `read_regular`, or it holds more than `SETTINGS_ITEMS` items.
        ValueError: it is not JSON, not UTF-8, nested too deeply, or holds a key twice, half a character or a number of
            thousands of digits.
        OSError: it cannot be opened.
    """
    return json_value(path, read_regular(path, limit).decode("utf-8"))


def read_model(kind: type[M], path: Path, missing: str | None = None, advice: str = "") -> M:
    """A JSON file as the pydantic model that it is of.

    Args:
        missing: what to say where there is no such file.
        advice: what a refusal ends with.

    Raises:
        InvalidInput: missing, damaged, or another document.
    """
    from pydantic import ValidationError  # not where a command only says its options

    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise InvalidInput(f"{path}: {first_problem(error)}{advice}") from error
    except (OSError, ValueError) as error:
        absent = missing if isinstance(error, FileNotFoundError) else None
        raise InvalidInput(absent or f"{path} cannot be read: {worded(error)}{advice}") from error


def json_value(where: Path | str, content: str) -> Any:
    """The value that a text of a few settings says in JSON. Raises as `read_json`."""
    check_items(where, content, SETTINGS_ITEMS)
    try:
        value = parse_json(content)
    except RecursionError:
        raise Malformed("nested too deeply") from None
    # Half a character is no text: nothing could write it again.
    if "\\ud" in content.lower() and re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)):
        raise Malformed("it holds half a character")
    return value


def check_items(where: Path | str, text: str, most: int) -> None:
    """Whether JSON holds as many values as such a file can. Counted before they are made: a list takes 50 times the two
    characters that it is written in, and pydantic keeps a complaint about each value that it does not like.

    Raises:
        InvalidInput: it holds more lists, objects and values behind a comma than `most`.
    """
    if text.count(",") + text.count("[") + text.count("{") > most:
        raise InvalidInput(f"{where} holds more items than such a file can ({most:,})")


def check_tensors(path: Path) -> None:
    """Whether a .safetensors file can be opened: a regular file, with a header of reasonable size and no name twice.

    Raises:
        InvalidInput: it is none. What else is wrong with it, safetensors says.
        OSError: it cannot be opened.
    """
    with open_regular(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_BYTES:
            raise InvalidInput(
                f"{path} is not a valid safetensors file: its header is larger than {HEADER_BYTES:,} bytes"
            )
        with refusing(f"{path} is not a valid safetensors file", RepeatedKey):
            check_keys(stream.read(length))


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened to be read. A pipe in its place is not waited for.

    Raises:
        InvalidInput: it is something else than a file.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, READ)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise InvalidInput(f"{path} is not a regular file")


def content_sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artifact_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a package."""
    return sum(file.stat().st_size for file in files_of(path))


def artifact_sha256(path: Path) -> str:
    """Hash of a file; of a package, the hash over its files' relative names and hashes in order."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in files_of(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def files_of(path: Path) -> list[Path]:
    """A file, or all files in a package in their order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def cache_folder(name: str) -> Path:
    """A folder of this user that survives between runs, as the system has it; it may not exist yet."""
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
        cache = Path(os.environ.get(variable) or Path.home() / ".cache")
    return cache / "mobileclip-deploy" / name
