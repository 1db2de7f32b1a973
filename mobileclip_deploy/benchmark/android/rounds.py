"""Finished rounds on their way from the phone into the run's stream on this computer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.benchmark.counting import RoundCounter
from mobileclip_deploy.benchmark.documents import parse_document, read_run
from mobileclip_deploy.benchmark.driver import Plan
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.result import Peak, RoundResult
from mobileclip_deploy.benchmark.stream import append, outstanding, read_stream
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.progress import Progress

__all__ = ["Rounds"]


class Rounds:
    """The rounds of a plan: kept as they come, and counted for whoever waits."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self._counter = RoundCounter(len(plan.job.order), progress)

    def outstanding(self) -> tuple[Turn, ...]:
        """The turns still to be run."""
        return outstanding(self.plan.job, read_stream(self.plan.stream, self.plan.job))

    def receive(self, line: str) -> None:
        """Keep one round that the phone has just finished. A damaged line is left to `fetch`."""
        try:
            finished = parse_document(line, RoundResult, "a line from the phone")
        except InvalidInput:
            return
        self._keep(finished)
        self.tell()

    def fetch(self, adb: Adb, folder: str) -> None:
        """Bring home what the stream on the phone holds and the one here does not.

        Raises:
            RuntimeFailed: the phone is lost.
            InvalidInput: the phone's stream is not this run's.
        """
        with self._pulled(adb, folder, self.plan.stream.name) as local:
            for finished in read_stream(local, self.plan.job) if local else ():
                self._keep(finished)

    def fetch_peaks(self, adb: Adb, folder: str) -> tuple[Peak, ...]:
        """The limit of the phone's cores, as its record of the run has it; none where the run was over before its end.

        Raises:
            RuntimeFailed: the phone is lost.
            InvalidInput: the record is damaged.
        """
        with self._pulled(adb, folder, f"{self.plan.job.run_id}.run.json") as local:
            return read_run(local).peaks if local else ()

    @contextmanager
    def _pulled(self, adb: Adb, folder: str, name: str) -> Iterator[Path | None]:
        """A file of the job's folder on the phone, here for as long as it is read; None where it is not there."""
        remote, local = f"{folder}/job/{name}", self.plan.folder / f"phone.{name}"
        if adb.shell(f"[ -f {quoted(remote)} ]").code != 0:
            yield None
            return
        try:
            adb.pull(remote, local)
            yield local
        finally:
            local.unlink(missing_ok=True)

    def tell(self, what: str = "") -> None:
        """Report how many turns are behind us, and what is going on: the next cell, if nothing else."""
        turns = self.outstanding()
        upcoming = self.plan.job.cell(turns[0].cell).label if turns else "done"
        self._counter.tell(len(self.plan.job.order) - len(turns), what or upcoming)

    def _keep(self, finished: RoundResult) -> None:
        job, stream = self.plan.job, self.plan.stream
        known = {Turn(cell=item.cell, round=item.round) for item in read_stream(stream, job)}
        turn = Turn(cell=finished.cell, round=finished.round)
        if finished.run_id == job.run_id and turn in job.order and turn not in known:
            append(stream, finished)
