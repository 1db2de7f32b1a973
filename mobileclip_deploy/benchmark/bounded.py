"""Limits on a device's output: its size, its text on one line, and a single error if it is invalid."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO
from xml.parsers.expat import ExpatError

from mobileclip_deploy.errors import RuntimeFailed

SAID_BYTES = 16 << 20
"""Limit far above any listing, dump of a service or description of a device."""
PIECE = 1 << 16


def run_bounded(command: Sequence[str], seconds: float, limit: int = SAID_BYTES) -> subprocess.CompletedProcess[bytes]:
    """Runs a program that forwards a device's output, and kills it if the output exceeds `limit` bytes.

    Raises:
        RuntimeFailed: the output exceeds the limit.
        subprocess.TimeoutExpired: the program took longer than `seconds`.
        OSError: the program cannot be started.
    """
    until = time.monotonic() + seconds
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    outputs = bytearray(), bytearray()
    readers = [
        threading.Thread(target=_read, args=(process, stream, into, limit), daemon=True)
        for stream, into in zip((process.stdout, process.stderr), outputs, strict=True)
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
    if any(len(output) > limit for output in outputs):
        raise RuntimeFailed(f"the device sent more than {limit >> 20} MiB, more than expected: restart it")
    return subprocess.CompletedProcess(command, process.returncode, *map(bytes, outputs))


def _read(process: subprocess.Popen[bytes], stream: IO[bytes], into: bytearray, limit: int) -> None:
    with stream:
        while piece := stream.read1(PIECE):  # type: ignore[attr-defined]
            into += piece
            if len(into) > limit:
                process.kill()
                return


@contextmanager
def parsing_device_output(whom: str) -> Iterator[None]:
    """Wraps code that parses a device's output: errors of parsing become one error.

    Raises:
        RuntimeFailed: the output is invalid.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError, ExpatError) as error:
        detail = one_line(f"{type(error).__name__}: {error}", 120)
        raise RuntimeFailed(f"invalid response from {whom} ({detail}): restart it, and run again") from error


def one_line(text: str, most: int = 500) -> str:
    """Returns a device's text with unprintable characters replaced by spaces, cut to `most` characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most])
