"""Locks and renames, where Windows differs from other systems."""

import contextlib
import errno
import os
import struct
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags to open a file that could be a pipe: opening a pipe would wait for a writer. Windows has no pipes with paths of
files, and changes line ends unless O_BINARY is set."""
WRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# The locked byte is beyond the content, since Windows keeps other processes from reading it. `locking` takes 31 bits.
LOCKED_BYTE = 0x7FFFFFFE
RENAME_SECONDS = 2.0
"""Seconds of retries: virus scanners and indexers open new files, and Windows does not rename open files."""


def lock(descriptor: int, wait: bool) -> None:
    """Locks an open file; the system releases the lock when the process ends or the descriptor is closed.

    Raises:
        BlockingIOError: another process has the lock, and `wait` is False.
        OSError: the disk has no locks.
    """
    if sys.platform == "win32":
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_as_java(descriptor: int) -> None:
    """Locks an open file on Linux against Java's writers, too: flock does not exclude the fcntl lock that they take.

    A lock of the descriptor stays when the process closes the file elsewhere. macOS keeps both kinds in one list of the
    file (`lf_getblock` in xnu's kern_lockf.c), where this lock would conflict with flock's. Windows has one kind.

    Raises:
        BlockingIOError: Java holds the lock.
    """
    if sys.platform == "linux":
        # l_type, l_whence, l_start, l_len (0: to the end), l_pid
        whole = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole)
        except OSError as error:  # a disk without such locks has no Java writer that takes one either
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(error.errno, error.strerror) from None


def drop_lock(file: Path, descriptor: int) -> None:
    """Removes a lock's file and then the lock.

    Windows cannot remove an open file: there the lock is released first, and a process that has opened the file
    meanwhile removes it.
    """
    if sys.platform == "win32":
        os.close(descriptor)
        with contextlib.suppress(PermissionError):
            file.unlink(missing_ok=True)
    else:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Renames a file over another one, or a folder. On Windows retries for `RENAME_SECONDS`.

    Raises:
        OSError: it cannot be renamed.
    """
    deadline = time.monotonic() + (RENAME_SECONDS if sys.platform == "win32" else 0)
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
