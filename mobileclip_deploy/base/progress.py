"""Progress reports for the user."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str], None]
"""Callback that gets the next stage in a few words, or with a count, as in `image 64 of 1911`, the progress of a
stage."""

# The count in a progress text, and the rest after it. The text before the count names the stage.
COUNT = re.compile(r"\b\d[\d.,]* of \d.*", re.DOTALL)
EVERY = 15.0


def about(subject: str, progress: Progress) -> Progress:
    """Returns a progress callback that prefixes texts with a subject: `subject: text`."""
    return lambda text: progress(f"{subject}: {text}")


def silent(_: str) -> None:
    """Ignores progress."""


def rate(per_second: float) -> str:
    """Formats a rate with three digits, as in 0.123, 98.2 and 1,060."""
    return f"{float(f'{per_second:.3g}'):,.12g}"


class Lines:
    """Progress for a log: a line when a stage begins, and another every `every` seconds while it lasts.

    Args:
        write: gets a line, without its end.
        every: seconds.
        clock: returns seconds since any fixed time.
        patience: a stage that lasts for fewer seconds gets no line.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        patience: float = 0.0,
    ) -> None:
        self._write, self._every, self._clock, self._patience = write, every, clock, patience
        self._lock = threading.Lock()
        self._text = ""
        self._began, self._wrote = clock(), -math.inf

    def __call__(self, text: str) -> None:
        with self._lock:
            now, before = self._clock(), self._text
            self._text = text
            if COUNT.sub("", text) != COUNT.sub("", before):
                self._began, self._wrote = now, -math.inf
            self._remind(now)

    def remind(self) -> None:
        """Writes the last text again if `every` seconds have passed."""
        with self._lock:
            self._remind(self._clock())

    @contextlib.contextmanager
    def reminding(self) -> Iterator[Lines]:
        """Reminds automatically while the block runs: a converter may be silent for minutes."""
        ended = threading.Event()

        def wait() -> None:
            while not ended.wait(min(self._every / 5, self._patience or self._every)):
                self.remind()

        thread = threading.Thread(target=wait, name="progress", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def _remind(self, now: float) -> None:
        first = self._wrote < self._began
        if not self._text or now - (self._began if first else self._wrote) < (self._patience if first else self._every):
            return
        self._wrote = now
        # A text of several lines, such as a code to scan, ends with the stage.
        self._write(self._text if first else f"{self._text.rpartition(chr(10))[2]} ({now - self._began:.0f} s)")
