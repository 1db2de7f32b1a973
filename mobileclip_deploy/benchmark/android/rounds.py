"""Transfer of finished rounds from the phone into the run's stream on this computer."""

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.adb import PATIENCE_SECONDS, SLOWEST, Adb, quoted
from mobileclip_deploy.benchmark.bounded import parsing_device_output
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
        """Reads a file on the phone, over a slow connection too. Returns empty text if the file does not exist."""
        size = adb.demand(f"[ ! -f {quoted(remote)} ] || wc -c <{quoted(remote)}").strip()
        if not size:
            return ""
        limit = self.plan.most_bytes
        with parsing_device_output(f"the phone {adb.serial}"):
            patience = PATIENCE_SECONDS + min(int(size), limit) / SLOWEST
        return adb.demand(f"cat -- {quoted(remote)}", patience, limit)
