"""One writer of an output at a time, among all processes and hosts. A new output replaces nothing."""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.base.files.staging import StagingLock, lock_file
from mobileclip_deploy.base.files.system import drop_lock, rename
from mobileclip_deploy.errors import DiskFull, UsageError, no_room

# Retries, because a run that clears leftovers holds the lock of a dead writer for a moment.
TRIES, PAUSE = 5, 0.02
WITHOUT_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)
"""Errors of a disk without locks: the output is then written without a lock."""
NAME = re.compile(rb"([a-z][a-z-]{0,40})\n")

_new: set[Path] = set()


@contextlib.contextmanager
def sole_writer(
    path: Path, command: str, *, force: bool, update: bool = False, beside: Path | None = None
) -> Iterator[None]:
    """Holds the lock of an output, which its owner takes before it reads or removes anything of that output.

    The folder of `path` is made, and removed again if it stays empty. While the block runs, `replacing(path)` refuses
    to replace a path that did not exist at the beginning, unless `force` is given.

    Args:
        command: name of the command, for a second writer's error text.
        force: the existing output may be replaced.
        update: the existing output is kept and extended.
        beside: another file of the same output, such as its description, with the same rules.

    Raises:
        UsageError: another writer has the lock, something exists at `path`, or the folder cannot be written.
        DiskFull: no room is left.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(made_folder(path.parent))
            stack.enter_context(_locked(path, command))
            with contextlib.suppress(FileNotFoundError):  # a name that `claimed` could not make after all the work
                StagingLock(path, "0" * 8).lock.lstat()
        except OSError as error:
            if no_room(error):
                raise DiskFull(str(path.parent)) from None
            reason = f"{path} is not writable ({error.strerror})"
            raise UsageError(f"{reason}; choose another output with `output`") from None
        if os.path.lexists(path):
            if not (force or update):
                raise _existing(path)
        elif not force:
            stack.callback(_new.discard, _key(path))
            _new.add(_key(path))
        if beside is not None:
            stack.enter_context(sole_writer(beside, command, force=force, update=update))
        yield


def publish(claim: StagingLock) -> None:
    """Moves a claim's partial file to its path. A new output (`sole_writer`) replaces nothing there.

    Raises:
        UsageError: the output is a new one, and something has appeared at its path.
    """
    if _key(claim.path) not in _new:
        rename(claim.partial, claim.path)
        return
    with _refusing_existing(claim.path):
        try:
            os.link(claim.partial, claim.path)  # unlike a rename, it never replaces a file
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links: the lock alone keeps other writers out
            if os.path.lexists(claim.path):
                raise FileExistsError from None
            rename(claim.partial, claim.path)
    _new.discard(_key(claim.path))


def publish_folder(claim: StagingLock) -> bool:
    """Moves a new output's folder to its path. Returns False if the output is not new, and may replace the existing
    one.

    Raises:
        UsageError: something has appeared at its path.
    """
    if _key(claim.path) not in _new:
        return False
    with _refusing_existing(claim.path):
        rename(claim.partial, claim.path)  # fails on a file, and on a folder with content
    _new.discard(_key(claim.path))
    return True


def busy(path: Path, command: str | None = None) -> UsageError:
    """Makes the error of a second writer."""
    writer = "process" if command is None else f"`{command}`"
    return UsageError(f"another {writer} writes {path}; run this again when it has ended")


@contextlib.contextmanager
def _locked(path: Path, command: str) -> Iterator[None]:
    lock = StagingLock(path).lock
    descriptor = _opened(path, lock)
    if descriptor is None:
        yield
        return
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{command}\n".encode())
        yield
    finally:
        drop_lock(lock, descriptor)


def _opened(path: Path, lock: Path) -> int | None:
    """Opens and locks the lock file. None if the disk has no locks."""
    for remaining in reversed(range(TRIES)):
        try:
            descriptor = None
            while descriptor is None:  # retry: its owner ended between our opening and locking it
                descriptor = lock_file(lock, os.O_CREAT)
            return descriptor
        except BlockingIOError:
            if not remaining:
                raise busy(path, _writer(lock)) from None
            time.sleep(PAUSE)
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                if not lock.stat().st_size:  # else it has an owner, and so the disk has locks
                    lock.unlink()
                return None
            raise
    return None


def _writer(lock: Path) -> str | None:
    """Returns the command that a lock file names. None if it cannot be read."""
    with contextlib.suppress(OSError), lock.open("rb") as stream:
        name = NAME.fullmatch(stream.read(64))
        return None if name is None else name[1].decode()
    return None


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it, and removes at the end those that it made and that are empty.

    Raises:
        OSError: it cannot be made.
    """
    absent = [entry for entry in (folder.absolute(), *folder.absolute().parents) if not entry.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for entry in absent:
            with contextlib.suppress(OSError):
                entry.rmdir()


@contextlib.contextmanager
def _refusing_existing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        if not os.path.lexists(path):
            raise
        raise _existing(path) from None


def _existing(path: Path) -> UsageError:
    reason = f"{path} exists"
    return UsageError(f"{reason}; replace it with `force=True`, or choose another output with `output`")


def _key(path: Path) -> Path:
    return path.parent.resolve() / path.name
