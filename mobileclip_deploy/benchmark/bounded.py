"""What a device says, in bounds: so many bytes, words in one line, and one error where they make no sense."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from mobileclip_deploy.errors import RuntimeFailed

SAID_BYTES = 16 << 20
"""Far more than any listing, dump of a service or description of a device takes."""
PIECE = 1 << 16


def run_bounded(command: Sequence[str], seconds: float, limit: int = SAID_BYTES) -> subprocess.CompletedProcess[bytes]:
    """Run a program that hands on what a device says, and end it where that is more than `limit` bytes.

    Raises:
        RuntimeFailed: it was more.
        subprocess.TimeoutExpired: it took longer than `seconds`.
        OSError: the program cannot be started.
    """
    until = time.monotonic() + seconds
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = bytearray(), bytearray()
    readers = [
        threading.Thread(target=_read, args=(process, stream, into, limit), daemon=True)
        for stream, into in zip((process.stdout, process.stderr), said, strict=True)
    ]
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(command, seconds)
        process.wait(max(0.0, until - time.monotonic()))
    except BaseException:
        process.kill()
        process.wait()
        raise
    if any(len(one) > limit for one in said):
        raise RuntimeFailed(f"the device sent more than {limit >> 20} MiB where it had less to say: restart it")
    return subprocess.CompletedProcess(command, process.returncode, *map(bytes, said))


def _read(process: subprocess.Popen[bytes], stream: IO[bytes], into: bytearray, limit: int) -> None:
    with stream:
        while piece := stream.read1(PIECE):  # type: ignore[attr-defined]
            into += piece
            if len(into) > limit:
                process.kill()
                return


@contextmanager
def understood(whom: str) -> Iterator[None]:
    """Around what reads a device's words: of others than it expects it makes one error.

    Raises:
        RuntimeFailed: they make no sense.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        told = one_line(f"{type(error).__name__}: {error}", 120)
        raise RuntimeFailed(f"{whom} tells what makes no sense ({told}): restart it, and run again") from error


def one_line(text: str, most: int = 500) -> str:
    """A device's words without what is no character to read, and not more than `most` of them."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most])
