"""Watching a run on the device until it is done, however often the connection breaks meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ValidationError

from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import Prose
from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.benchmark.driver import RoundCounter
from mobileclip_deploy.benchmark.ios.devicectl import CoreDeviceFailed, UnknownCommand
from mobileclip_deploy.benchmark.ios.phone import Phone
from mobileclip_deploy.benchmark.job import Count, Identifier, Turn
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.errors import RuntimeFailed

# A file that the app wrote just before it ended may not be retrievable at once (CoreDeviceError 7000).
LOOKS_AFTER_THE_END = 3


@dataclass(frozen=True)
class Patience:
    """Seconds: between two looks at least and at most, for a broken connection, for a standstill."""

    between: float = 10
    longest: float = 600
    broken: float = 120
    still: float = 900


class RunProgress(BaseModel):
    """<run_id>.progress.json as HarnessCore writes it (RunProgress.swift), without what is not needed here."""

    run_id: Identifier
    state: Literal["running", "paused", "finished", "failed"]
    error: Prose | None = None
    finished_turns: Count
    turn: Turn | None = None

    @property
    def what(self) -> str:
        """The turn in progress, or the state."""
        return f"{self.turn.cell}, round {self.turn.round}" if self.turn else self.state


def follow(
    phone: Phone, process: int, plan: Plan, counter: RoundCounter, patience: Patience, first: bool = False
) -> frozenset[Turn]:
    """Return when the run is finished, or has paused, which it does behind the `first` round of each cell.

    A look disturbs what is being measured. Where Xcode can wait for the end of a process, there is a look at most
    every `patience.longest` seconds, and none in a run that takes less. Elsewhere the next one comes when the run can
    be finished at the earliest, by the protocol and by how long the rounds took so far: a run is looked at a few times.

    Args:
        process: the app's, on the device.

    Returns:
        The turns that were in progress at a look.

    Raises:
        RuntimeFailed: the run failed, the app ended, stands still, or the connection stayed broken.
    """
    last: RunProgress | None = None
    unseen = 0
    looked_at: set[Turn] = set()
    began = moved = seen = time.monotonic()
    run_id, least = plan.job.run_id, plan.job.protocol.least_seconds
    turns = left = len(plan.outstanding)
    each, can_wait = least, True
    while True:
        rested = time.monotonic()
        try:
            ended = can_wait and phone.wait(process, patience.longest)
        except UnknownCommand:
            ended = can_wait = False
        if not ended:
            rest = patience.between if can_wait else max(patience.between, min(left * each, patience.longest))
            time.sleep(max(0.0, rest - (time.monotonic() - rested)))
        now = time.monotonic()
        try:
            alive = phone.is_running(process)  # asked first: what it wrote before it ended is then read below
            current = read_progress(phone.pull(f"Documents/results/{run_id}/{run_id}.progress.json"), run_id)
            seen = now
        except CoreDeviceFailed as failure:
            if not failure.broken:
                raise
            if now - seen > patience.broken:
                raise RuntimeFailed(f"{failure}; the app goes on meanwhile") from failure
            continue
        if current is not None and current.state == "failed":
            raise RuntimeFailed(f"the run failed on the device: {one_line(str(current.error))}")
        if current is not None and current.turn is not None:
            looked_at.add(current.turn)
        if current is not None and current != last:
            last, moved, left = current, now, counter.total - current.finished_turns
            if finished := turns - left:
                each = max(least, (now - began) / finished)
            counter.tell(current.finished_turns, current.what)
        if current is not None and current.state == ("paused" if first else "finished"):
            return frozenset(looked_at)
        unseen = unseen + 1 if not alive and current is None else 0
        if not alive and not 0 < unseen <= LOOKS_AFTER_THE_END:
            where = f" in {last.what}" if last and last.turn else ""
            raise RuntimeFailed(
                f"the app ended on the device{where} before its run did (the system ends an app that takes too much "
                "memory, and people close them); run the command again"
            )
        if now - moved > patience.still:
            raise RuntimeFailed(
                f"the run has stood still for {patience.still / 60:.0f} minutes; an app behind a locked screen sleeps: "
                "unlock the device, open the app, and run the command again"
            )


def read_progress(data: bytes | None, run_id: str) -> RunProgress | None:
    """None while there is no progress of this run."""
    if data is None:
        return None
    try:
        found = parse_model(RunProgress, data)
    except ValidationError:
        return None  # a file that is being replaced; the next look sees it whole
    return found if found.run_id == run_id else None
