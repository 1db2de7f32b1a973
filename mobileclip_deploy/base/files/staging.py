"""Leftovers of killed processes: protected by a lock while the process lives, then removed and reported by the next
run."""

import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.files.system import WRITE, drop_lock, lock, lock_as_java

LOCK = re.compile(r"\.(?P<name>.+)\.partial(?:-(?P<token>[0-9a-f]{8}))?\.lock")
# Short, since a socket's path contains it, and macOS limits such paths to 104 characters.
TEMPORARY = "mcd"
OWN = re.compile(rf"\.{TEMPORARY}\.partial-[0-9a-f]{{8}}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StagingLock:
    """Names next to `path` that belong to one process while it holds the lock.

    Attributes:
        token: drawn by the process. Empty: the claim is of `path` itself, by its one writer (`sole_writer`), and
            `partial` is the work that the next writer resumes.
    """

    path: Path
    token: str = ""

    @property
    def partial(self) -> Path:
        """Path of the unfinished output."""
        return self.path.parent / f".{self.path.name}.partial{'-' * bool(self.token)}{self.token}"

    @property
    def replaced(self) -> Path:
        """Path of the old output while the new one replaces it."""
        return self.path.parent / f".{self.path.name}.replaced-{self.token}"

    @property
    def lock(self) -> Path:
        """File that the process locks. Without it nothing is ever removed."""
        return self.partial.with_name(f"{self.partial.name}.lock")


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[StagingLock]:
    """Yields names next to `path`, protected from all other processes, on any host, by a lock.

    A lock is used instead of a process id: ids are reused, and mean nothing to another host or container on the same
    disk. The system releases a lock when its process ends in any way. At the end `partial` is removed.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    claim, descriptor = StagingLock(path, secrets.token_hex(4)), None
    while descriptor is None:  # retry: a run that clears may have removed the file before the lock
        descriptor = lock_file(claim.lock, os.O_CREAT | os.O_EXCL, wait=True)
    try:
        yield claim
    finally:
        remove(claim.partial)
        drop_lock(claim.lock, descriptor)  # last: without the lock's file nothing else would be removed


def clear_leftovers(folder: Path) -> None:
    """Removes the leftovers of killed processes in a folder, and restores outputs that were set aside and not replaced.

    One line on stderr, through `logging`, reports the actions. Nothing is removed if the file system has no locks.
    """
    try:
        claims = [
            StagingLock(folder / match["name"], match["token"] or "")
            for entry in os.scandir(folder)
            if (match := LOCK.fullmatch(entry.name)) is not None
        ]
    except OSError:  # missing, or without permission: the writer reports it
        return
    removed = []
    for claim in sorted(claims, key=lambda one: one.token):
        with contextlib.suppress(OSError):  # in use, another user's, or on a disk that cannot be written
            descriptor = lock_file(claim.lock)
            if descriptor is None:
                continue
            try:
                removed += _clear(claim)
            except BaseException:
                os.close(descriptor)
                raise
            drop_lock(claim.lock, descriptor)
    if removed:
        log.warning("note: %s, left by a run that was killed", ", ".join(removed))


def _clear(claim: StagingLock) -> list[str]:
    """Removes the leftovers of a claim whose lock is held, and returns the actions by name. The caller removes the
    lock's file."""
    done = []
    if claim.token:
        if claim.replaced.exists() and not claim.path.exists():
            claim.replaced.rename(claim.path)
            done.append(f"put back {claim.path}")
        for leftover in (claim.replaced, claim.partial):
            if leftover.exists() or leftover.is_symlink():
                remove(leftover)
                done.append(f"removed {leftover}")
    return done


def lock_file(file: Path, flags: int = 0, *, wait: bool = False) -> int | None:
    """Opens and locks a file, and returns the descriptor. None if the file was removed meanwhile.

    Raises:
        OSError: it cannot be opened; or, without `wait`, it is locked (BlockingIOError) or cannot be locked.
    """
    descriptor = os.open(file, WRITE | flags, 0o600)
    try:
        if wait:
            with contextlib.suppress(OSError):  # a disk without locks: no other process removes anything either
                lock(descriptor, wait)
        else:
            lock(descriptor, wait)
            lock_as_java(descriptor)
        if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def system_temporary() -> Path:
    """Returns the system's folder for temporary files, even if this process has its own (`own_temporary_folder`)."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if OWN.fullmatch(folder.name) else folder


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a temporary folder; if the process is killed, the next call in any process removes it.

    It is in the system's folder, never in another one of ours: the path of a socket in it is limited to about 100
    characters.

    Raises:
        OSError: no temporary file can be written.
    """
    root = system_temporary()
    clear_leftovers(root)
    with claimed(root / TEMPORARY) as claim:
        claim.partial.mkdir(mode=0o700)
        yield claim.partial


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Redirects all temporary files, also those of converters, into one folder of this process, which is removed at the
    end.

    Killed converters leave packages in the temporary folder, under names that do not identify them. If no temporary
    file can be written, nothing changes.
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder())
        except OSError:
            yield
            return
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable
