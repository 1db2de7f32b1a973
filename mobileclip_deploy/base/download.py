"""Download of a file by HTTP, bounded in bytes and in time, however slowly a server sends."""

import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

PIECE = 1 << 16
SILENT_SECONDS, MOST_SECONDS = 60, 1800
"""Limits on the time without a byte, and on the whole download."""


def download(address: str, into: Path, limit: int, progress: Callable[[int], None] = lambda _: None) -> int:
    """Downloads a file, and returns the number of its bytes. At most one piece more than `limit` is written.

    Raises:
        OSError: the server cannot be reached, breaks the protocol, or takes too long; the address is not valid.
    """
    from urllib.request import urlopen

    outcome: list[int | Exception] = []

    def read() -> None:
        count = 0
        try:
            with urlopen(address, timeout=SILENT_SECONDS) as response, into.open("wb") as stream:
                while count <= limit and (piece := response.read(PIECE)):
                    count += stream.write(piece)
                    progress(count)
            outcome.append(count)
        except Exception as error:
            outcome.append(error)

    # In a thread, since a timeout of a socket begins again with each byte, also with one of the headers.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(MOST_SECONDS)
    if not outcome:
        raise TimeoutError(f"it takes more than {MOST_SECONDS} s")
    if isinstance(outcome[0], HTTPException | ValueError):
        raise OSError(str(outcome[0])) from outcome[0]
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]
