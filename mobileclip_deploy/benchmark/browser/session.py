"""A job as a page works through it: which round comes next, whether its answers are right, and what it measured."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.benchmark.answers import judge
from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.driver import Plan
from mobileclip_deploy.benchmark.golden import outcome
from mobileclip_deploy.benchmark.job import Cell, Turn, weights_beside
from mobileclip_deploy.benchmark.result import Browser, GoldenOutcome, RoundResult
from mobileclip_deploy.benchmark.stream import append, outstanding, read_stream
from mobileclip_deploy.errors import InvalidInput

__all__ = ["BrowserSession"]

DEATHS = 2
"""A page that ends so often in one round ends the round's cell too."""


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
        self._golden: dict[Turn, GoldenOutcome] = {}
        self.given = 0
        """How many rounds pages were given so far, those that were given again included."""
        self.browser: Browser | None = None
        """What the page said of its browser; None until one has come."""
        self.finished = threading.Event()
        self.heard = threading.Event()
        """Set whenever the page sends anything; who waits clears it."""

    @property
    def files(self) -> dict[str, Path]:
        """Everything below the plan's folder that a page may load, by its path: models, what lies beside them, and
        golden inputs. Nothing else is served, golden outputs least of all."""
        found: dict[str, Path] = {}
        for cell in self._plan.job.cells:
            names = [cell.file, *weights_beside(cell.file)]
            names += [cell.golden.inputs.file] if cell.golden else []
            found |= {name: self._plan.folder / name for name in names if (self._plan.folder / name).is_file()}
        return found

    def hello(self, text: str) -> None:
        """A page has come.

        Raises:
            InvalidInput: it does not say what it is.
        """
        found = parse_document(text, Browser, "the page")
        with self._lock:
            self.browser = found

    def next(self) -> dict[str, Any]:
        """The round to run now, with its cell; `{"done": true}` after the last one."""
        with self._lock:
            if self._begun is not None:
                self._died(self._begun, "the page was loaded again")
            turns = self._outstanding()
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
                "beside": [name for name in self.files if name in weights_beside(cell.file)],
                "protocol": self._plan.job.protocol.model_dump(mode="json"),
            }

    def answers(self, cell: str, number: int, raw: bytes) -> dict[str, Any]:
        """Judge the answers of the round that is being run, float32 [N, D]: only right ones may be timed.

        Raises:
            InvalidInput: not of that round, or not answers.
        """
        with self._lock:
            asked = self._of(cell, number)
            dimension = asked.output.shape[-1]
            if asked.golden is None or not raw or len(raw) % (4 * dimension):
                raise InvalidInput("not answers to golden inputs")
            values = np.frombuffer(raw, "<f4").reshape(-1, dimension)
            found = outcome(asked, self._plan.folder, values)
            self._golden[Turn(cell=cell, round=number)] = found
            blank = RoundResult(run_id=self._plan.job.run_id, cell=cell, round=number, status="done", golden=found)
            judged = judge(blank, asked, self._plan.job.protocol)
            return {"passed": judged.status == "done", "error": judged.error}

    def round(self, text: str) -> None:
        """Keep a finished round, judged.

        Raises:
            InvalidInput: not the round that is being run.
        """
        sent = parse_document(text, RoundResult, "the page")
        with self._lock:
            asked = self._of(sent.cell, sent.round)
            golden = self._golden.get(Turn(cell=sent.cell, round=sent.round))
            # The page brings no outcome of its own: answers were compared here.
            self._keep(sent.model_copy(update={"golden": golden, "run_id": self._plan.job.run_id}), asked)

    def died(self, why: str) -> None:
        """The browser has ended, or is silent: the round that was begun will be begun again, or is given up."""
        with self._lock:
            if self._begun is not None:
                self._died(self._begun, why)

    def _died(self, turn: Turn, why: str) -> None:
        self._begun = None
        self._deaths[turn] += 1
        if self._deaths[turn] >= DEATHS:
            failed = RoundResult(run_id=self._plan.job.run_id, cell=turn.cell, round=turn.round, status="failed")
            error = f"{why}, {DEATHS} times in this round (out of memory?)"
            self._keep(failed.model_copy(update={"error": error}), self._plan.job.cell(turn.cell))
            if not self._outstanding():  # no page is there to ask and be told
                self.finished.set()

    def _keep(self, finished: RoundResult, cell: Cell) -> None:
        append(self._plan.stream, judge(finished, cell, self._plan.job.protocol))
        self._begun = None

    def _of(self, cell: str, number: int) -> Cell:
        if self._begun is None or (self._begun.cell, self._begun.round) != (cell, number):
            raise InvalidInput(f"round {number} of {cell} is not the one that is being run")
        return self._plan.job.cell(cell)

    def _outstanding(self) -> tuple[Turn, ...]:
        return outstanding(self._plan.job, read_stream(self._plan.stream, self._plan.job))
