"""Keeping what native code writes to file descriptors 1 and 2 from the user."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["hold_back"]


@contextlib.contextmanager
def hold_back() -> Iterator[None]:
    """Send both descriptors to nowhere; sys.stdout and sys.stderr are flushed before and keep their objects."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
