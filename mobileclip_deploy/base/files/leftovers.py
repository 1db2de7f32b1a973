"""What a killed process leaves behind: claimed by a lock while its process lives, removed by the next run, and said."""

from __future__ import annotations

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
# Short: a socket's path, which ends in it, has room for 104 characters on macOS.
TEMPORARY = "mcd"
OWN = re.compile(rf"\.{TEMPORARY}\.partial-[0-9a-f]{{8}}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """Names beside `path` that are one process's own while it holds the lock.

    Attributes:
        token: drawn by the process. Empty: the claim is of `path` itself, by its one writer (`sole_writer`), and
            `partial` holds what the next writer goes on with.
    """

    path: Path
    token: str = ""

    @property
    def partial(self) -> Path:
        """What is being written."""
        return self.path.parent / f".{self.path.name}.partial{'-' * bool(self.token)}{self.token}"

    @property
    def replaced(self) -> Path:
        """What was at `path`, while the new takes its place."""
        return self.path.parent / f".{self.path.name}.replaced-{self.token}"

    @property
    def lock(self) -> Path:
        """A file that the process holds a lock on. Without it nothing is ever removed."""
        return self.partial.with_name(f"{self.partial.name}.lock")


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[Claim]:
    """Names beside `path`, and the lock that tells every other process, on whatever host, that they are in use.

    A lock and not a process number: numbers are used again, and mean nothing to another host or container on the same
    disk. The system drops a lock with its process, however that ends. What is at `partial` in the end is removed.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    claim, descriptor = Claim(path, secrets.token_hex(4)), None
    while descriptor is None:  # again where a run that clears was quicker than our lock
        descriptor = lock_file(claim.lock, os.O_CREAT | os.O_EXCL, wait=True)
    try:
        yield claim
    finally:
        remove(claim.partial)
        drop_lock(claim.lock, descriptor)  # last: without the lock's file the rest is nobody's to remove


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left in a folder; what one had set aside and not yet replaced comes back.

    One line on stderr, by way of `logging`, says what was done. Where the file system has no locks nothing is removed.
    """
    try:
        claims = [
            Claim(folder / match["name"], match["token"] or "")
            for entry in os.scandir(folder)
            if (match := LOCK.fullmatch(entry.name)) is not None
        ]
    except OSError:  # it is not there, or may not be read: whoever writes there says so
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
        log.warning("note: of a run that was killed, in %s: %s", folder, ", ".join(removed))


def _clear(claim: Claim) -> list[str]:
    """Tidies up after a claim whose lock is held, and returns the actions by name; the lock's file goes last."""
    done = []
    if claim.token:
        if claim.replaced.exists() and not claim.path.exists():
            claim.replaced.rename(claim.path)
            done.append(f"{claim.path.name} put back")
        for left in (claim.replaced, claim.partial):
            if left.exists() or left.is_symlink():
                remove(left)
                done.append(f"{left.name} removed")
    return done


def lock_file(file: Path, flags: int = 0, *, wait: bool = False) -> int | None:
    """An open descriptor that holds the lock of a file; None where the file was removed meanwhile.

    Raises:
        OSError: it cannot be opened; or, without `wait`, it is locked (BlockingIOError) or cannot be.
    """
    descriptor = os.open(file, WRITE | flags, 0o600)
    try:
        if wait:
            with contextlib.suppress(OSError):  # a disk without locks: then nobody else removes anything either
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
    """A file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def system_temporary() -> Path:
    """The system's folder for temporary files, also where this process has one of its own (`own_temporary_folder`)."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if OWN.fullmatch(folder.name) else folder


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for as long as the block runs; where its process is killed meanwhile, the next one that makes one
    removes it.

    It stands in the system's folder, never in another one of ours: the path of a socket in it has room for about 100
    characters.

    Raises:
        OSError: nothing temporary can be written.
    """
    root = system_temporary()
    clear_leftovers(root)
    with claimed(root / TEMPORARY) as claim:
        claim.partial.mkdir(mode=0o700)
        yield claim.partial


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Everything temporary, of converters too, goes into one folder of this process, which is removed at the end.

    Converters leave packages in the temporary folder when they are killed, under names that could be anybody's. Where
    nothing temporary can be written, nothing is changed.
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
