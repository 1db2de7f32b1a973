"""Transfer of finished rounds from the phone into the run's stream on this computer."""

from __future__ import annotations

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.benchmark.documents import parse_document, parse_stream
from mobileclip_deploy.benchmark.driver import RoundCounter
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.errors import InvalidInput


class Rounds:
    """Rounds of a plan. Stores each round when it arrives, and reports progress.

    `fetch` raises InvalidInput if the phone's stream is damaged, or belongs to another run.
    """

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self._counter = RoundCounter(len(plan.job.order), progress)

    def receive(self, line: str) -> None:
        """Stores a round that the phone has just finished. Leaves a damaged line to `fetch`."""
        try:
            finished = parse_document(line, RoundResult, "a line from the phone")
        except InvalidInput:
            return
        self.plan.keep(finished)
        self.tell()

    def fetch(self, adb: Adb, folder: str) -> None:
        """Fetches the rounds that the stream on the phone contains and the stream here does not."""
        name = self.plan.stream.name
        content = self._content(adb, f"{folder}/job/{name}").encode()
        for finished in parse_stream(content, self.plan.job, f"the phone's {name}"):
            self.plan.keep(finished)

    def tell(self, what: str = "") -> None:
        """Reports the number of finished turns, and the current work: `what`, else the next cell."""
        turns = self.plan.outstanding
        upcoming = self.plan.job.cell(turns[0].cell).label if turns else "done"
        self._counter.tell(len(self.plan.job.order) - len(turns), what or upcoming)

    def _content(self, adb: Adb, remote: str) -> str:
        """Reads a file on the phone. Returns empty text if the file does not exist."""
        return adb.demand(f"[ ! -f {quoted(remote)} ] || cat -- {quoted(remote)}", limit=self.plan.most_bytes)
