"""Finished rounds on their way from the phone into the run's stream on this computer."""

from __future__ import annotations

from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.driver import Plan, Progress
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.benchmark.stream import append, outstanding, read_stream
from mobileclip_deploy.errors import InvalidInput

__all__ = ["fetch_rounds", "receive_round", "tell"]


def receive_round(plan: Plan, progress: Progress, line: str) -> None:
    """Keep one round that the phone has just finished. A damaged line is left to `fetch_rounds`."""
    try:
        finished = parse_document(line, RoundResult, "a line from the phone")
    except InvalidInput:
        return
    _keep(plan, finished)
    tell(plan, progress, "")


def fetch_rounds(adb: Adb, folder: str, plan: Plan) -> None:
    """Bring home what the stream on the phone holds and the one here does not.

    Raises:
        RuntimeFailed: the phone is lost.
        InvalidInput: the phone's stream is not this run's.
    """
    remote = f"{folder}/job/{plan.stream.name}"
    if adb.shell(f"[ -f {quoted(remote)} ]").code != 0:
        return
    local = plan.folder / f"phone.{plan.stream.name}"
    try:
        adb.pull(remote, local)
        for finished in read_stream(local, plan.job):
            _keep(plan, finished)
    finally:
        local.unlink(missing_ok=True)


def tell(plan: Plan, progress: Progress, what: str) -> None:
    """Report how many turns are behind us, and what is going on: the next cell, if nothing else."""
    turns = outstanding(plan.job, read_stream(plan.stream, plan.job))
    upcoming = plan.job.cell(turns[0].cell).label if turns else "done"
    progress(len(plan.job.order) - len(turns), len(plan.job.order), what or upcoming)


def _keep(plan: Plan, finished: RoundResult) -> None:
    known = {Turn(cell=item.cell, round=item.round) for item in read_stream(plan.stream, plan.job)}
    turn = Turn(cell=finished.cell, round=finished.round)
    if finished.run_id == plan.job.run_id and turn in plan.job.order and turn not in known:
        append(plan.stream, finished)
