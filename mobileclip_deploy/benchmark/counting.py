"""How far a run is, in words."""

from __future__ import annotations

import time

from mobileclip_deploy.progress import Progress


class RoundCounter:
    """Tells how many rounds are done, and how long the others take by what those of this process took so far."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self._progress = total, progress
        self._started, self._first = time.monotonic(), -1

    def tell(self, done: int, what: str) -> None:
        """Say what comes next.

        Args:
            done: finished rounds, those of an interrupted run included.
        """
        self._first = done if self._first < 0 else self._first
        left = ""
        if done > self._first:
            seconds = (time.monotonic() - self._started) / (done - self._first) * (self.total - done)
            left = f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} minutes left"
        self._progress(f"{done} of {self.total} rounds{left}: {what}")
