"""Session of a job with a page: sends the next round, receives its results."""

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
"""Number of times that a page may end in one round; then the round fails."""
HELLO = 1 << 16
"""Maximum number of characters of a page's description of its browser."""


class PageWord(Frozen):
    """State of a page: hidden or in front, and whether it keeps the screen awake."""

    hidden: bool
    awake: bool


class BrowserSession:
    """State of a job while pages run its rounds. Every method may be called from any thread.

    A reloaded page, or another page, requests the next round as the first page did. Finished rounds are in the plan's
    stream, and a started round is started again.
    """

    def __init__(self, plan: Plan, tell: Callable[[int, Cell], None]) -> None:
        self._plan, self._tell = plan, tell
        self._lock = threading.Lock()
        self._begun: Turn | None = None
        self._deaths: Counter[Turn] = Counter()
        self.given = 0
        """Number of rounds sent to pages so far; a round that was sent again counts again."""
        self.browser: Browser | None = None
        """The page's description of its browser. None until a page was opened."""
        self.finished = threading.Event()
        self.word: PageWord | None = None
        """Last state that the page sent. None until the page sent one."""
        self.round_seconds = plan.job.protocol.longest_seconds
        """Time limit of a round, in seconds."""
        self.last_word = self.last_step = time.monotonic()
        """Monotonic time in seconds: of the page's last message of any kind, and of its last request or round."""
        self.heard = threading.Event()
        """Event that is set after every processed message of the page. The waiting thread clears it."""

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        self.last_word = self.last_step = time.monotonic()
        try:
            with self._lock:
                yield
        finally:
            self.heard.set()

    def hello(self, text: str) -> None:
        """Records the browser of a page that was opened.

        Raises:
            InvalidInput: the page's description of its browser is invalid.
        """
        with self._hearing():
            if len(text) > HELLO:
                raise InvalidInput(f"the page sent more than {HELLO} characters about its browser")
            description = parse_document(text, Browser, "the page")
            words = {name: one_line(value) for name, value in description if isinstance(value, str)}
            self.browser = with_fields(description, **words)

    def tell(self, text: str) -> None:
        """Records the state of a page that is still open. This is not progress, since the page's worker may hang."""
        self.last_word = time.monotonic()
        self.word = parse_document(text[:HELLO], PageWord, "the page")

    def next(self) -> dict[str, Any]:
        """Returns the round to run now, with its cell. Returns `{"done": true}` after the last round."""
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
        """Stores a finished round.

        Raises:
            InvalidInput: the text is not a result of the current round.
        """
        with self._hearing():
            sent = parse_document(text, RoundResult, "the page")
            if Turn(cell=sent.cell, round=sent.round) != self._begun or sent.run_id != self._plan.job.run_id:
                raise InvalidInput(f"round {sent.round} of {sent.cell} is not the current one")
            self._keep(sent)

    def died(self, why: str) -> None:
        """Handles a browser that has ended or is silent: the current round will be started again, or fails."""
        with self._lock:
            if self._begun is not None:
                self._died(self._begun, why)

    def _died(self, turn: Turn, why: str) -> None:
        self._begun = None
        self._deaths[turn] += 1
        if self._deaths[turn] >= DEATHS:
            error = f"{why}, {DEATHS} times in this round (out of memory?)"
            self._keep(RoundResult.failed(self._plan.job.run_id, turn, error))
            if not self._plan.outstanding:  # no page is open that could request the next round
                self.finished.set()

    def _keep(self, finished: RoundResult) -> None:
        self._plan.keep(finished)
        self._begun = None
