"""A job as a page works through it: which round comes next, and what it measured."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.job import Cell, Frozen, Turn, weights_beside
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Browser, RoundResult
from mobileclip_deploy.errors import InvalidInput

DEATHS = 2
"""A page that ends so often in one round ends the round's cell too."""
HELLO = 1 << 16
"""Characters of what a page says of its browser."""


class PageWord(Frozen):
    """State of a page: hidden or in front, and whether it keeps the screen awake."""

    hidden: bool
    awake: bool


class BrowserSession:
    """What the server asks and the page answers. Every method may be called from any thread.

    A page that reloads, or another one in its place, asks for the next round as the first did: what was finished is in
    the plan's stream, and the round that was begun is begun again.
    """

    def __init__(self, plan: Plan, tell: Callable[[int, Cell], None]) -> None:
        self._plan, self._tell = plan, tell
        self._lock = threading.Lock()
        self._begun: Turn | None = None
        self._deaths: Counter[Turn] = Counter()
        self.given = 0
        """How many rounds pages were given so far, those that were given again included."""
        self.browser: Browser | None = None
        """What the page said of its browser; None until one has come."""
        self.finished = threading.Event()
        self.word: PageWord | None = None
        """What the page said last of itself."""
        self.last_word = time.monotonic()
        """When a page said anything, if only that it is there."""
        self.heard = threading.Event()
        """Set whenever something that the page sent was dealt with; who waits clears it."""

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        self.last_word = time.monotonic()
        try:
            with self._lock:
                yield
        finally:
            self.heard.set()

    def hello(self, text: str) -> None:
        """A page has come.

        Raises:
            InvalidInput: it does not say what it is.
        """
        with self._hearing():
            if len(text) > HELLO:
                raise InvalidInput(f"the page says more of its browser than {HELLO} characters")
            found = parse_document(text, Browser, "the page")
            words = {name: one_line(value) for name, value in found if isinstance(value, str)}
            self.browser = with_fields(found, **words)

    def tell(self, text: str) -> None:
        """Notes that a page is still there, which is no progress: its worker may hang all the same."""
        self.last_word = time.monotonic()
        self.word = parse_document(text[:HELLO], PageWord, "the page")

    def next(self) -> dict[str, Any]:
        """The round to run now, with its cell; `{"done": true}` after the last one."""
        with self._hearing():
            if self._begun is not None:
                self._died(self._begun, "the page was loaded again")
            turns = self._plan.outstanding
            if not turns:
                self.finished.set()
                return {"done": True}
            self._begun = turns[0]
            self.given += 1
            cell = self._plan.job.cell(turns[0].cell)
            self._tell(len(self._plan.job.order) - len(turns), cell)
            return {
                "run": self._plan.job.run_id,
                "round": turns[0].round,
                "cell": cell.model_dump(mode="json"),
                "beside": [name for name in self._plan.files if name in weights_beside(cell.file)],
                "protocol": self._plan.job.protocol.model_dump(mode="json"),
            }

    def round(self, text: str) -> None:
        """Keep a finished round.

        Raises:
            InvalidInput: not the round that is being run.
        """
        with self._hearing():
            sent = parse_document(text, RoundResult, "the page")
            if Turn(cell=sent.cell, round=sent.round) != self._begun or sent.run_id != self._plan.job.run_id:
                raise InvalidInput(f"round {sent.round} of {sent.cell} is not the one that is being run")
            self._keep(sent)

    def died(self, why: str) -> None:
        """The browser has ended, or is silent: the round that was begun will be begun again, or is given up."""
        with self._lock:
            if self._begun is not None:
                self._died(self._begun, why)

    def _died(self, turn: Turn, why: str) -> None:
        self._begun = None
        self._deaths[turn] += 1
        if self._deaths[turn] >= DEATHS:
            error = f"{why}, {DEATHS} times in this round (out of memory?)"
            self._keep(RoundResult.failed(self._plan.job.run_id, turn, error))
            if not self._plan.outstanding:  # no page is there to ask and be told
                self.finished.set()

    def _keep(self, finished: RoundResult) -> None:
        self._plan.keep(finished)
        self._begun = None
