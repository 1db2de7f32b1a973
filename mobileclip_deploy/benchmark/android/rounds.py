"""Finished rounds on their way from the phone into the run's stream on this computer."""

from __future__ import annotations

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.benchmark.documents import parse_document, parse_stream
from mobileclip_deploy.benchmark.driver import RoundCounter
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.errors import InvalidInput


class Rounds:
    """The rounds of a plan: kept as they come, and counted for whoever waits. What the phone holds is refused with
    InvalidInput where it is damaged, or not this run's."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self._counter = RoundCounter(len(plan.job.order), progress)

    def receive(self, line: str) -> None:
        """Keep one round that the phone has just finished. A damaged line is left to `fetch`."""
        try:
            finished = parse_document(line, RoundResult, "a line from the phone")
        except InvalidInput:
            return
        self.plan.keep(finished)
        self.tell()

    def fetch(self, adb: Adb, folder: str) -> None:
        """Bring home what the stream on the phone holds and the one here does not."""
        name = self.plan.stream.name
        content = self._content(adb, f"{folder}/job/{name}").encode()
        for finished in parse_stream(content, self.plan.job, f"the phone's {name}"):
            self.plan.keep(finished)

    def tell(self, what: str = "") -> None:
        """Report how many turns are behind us, and what is going on: the next cell, if nothing else."""
        turns = self.plan.outstanding
        upcoming = self.plan.job.cell(turns[0].cell).label if turns else "done"
        self._counter.tell(len(self.plan.job.order) - len(turns), what or upcoming)

    def _content(self, adb: Adb, remote: str) -> str:
        """A file on the phone; empty where it is not there."""
        return adb.demand(f"[ ! -f {quoted(remote)} ] || cat -- {quoted(remote)}", limit=self.plan.most_bytes)
