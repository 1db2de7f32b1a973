"""Observation of a run on the device until it is finished, even if the connection breaks meanwhile."""

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
    """Time limits in seconds.

    `between` and `longest`: shortest and longest time between two checks of the run. `broken`: for a broken connection.
    `still`: for a run without progress.
    """

    between: float = 10
    longest: float = 600
    broken: float = 120
    still: float = 900


class RunProgress(BaseModel):
    """Content of <run_id>.progress.json, which HarnessCore writes (RunProgress.swift). Has only the needed fields."""

    run_id: Identifier
    state: Literal["running", "paused", "finished", "failed"]
    error: Prose | None = None
    finished_turns: Count
    turn: Turn | None = None

    @property
    def what(self) -> str:
        """Text of the turn in progress, or the state if no turn is."""
        return f"{self.turn.cell}, round {self.turn.round}" if self.turn else self.state


def follow(
    phone: Phone, process: int, plan: Plan, counter: RoundCounter, patience: Patience, first: bool = False
) -> frozenset[Turn]:
    """Waits until the run is finished, or has paused after the `first` round of each cell.

    A check of the device disturbs the measurement. If Xcode can wait for the end of a process, checks are at least
    `patience.longest` seconds apart. A shorter run has none. If Xcode cannot, the next check comes when the run can be
    finished at the earliest. The protocol and the duration of the rounds so far decide that time, so a run has few
    checks.

    Args:
        process: the app's process identifier on the device.

    Returns:
        The turns that were in progress at a check.

    Raises:
        RuntimeFailed: the run failed or makes no progress, the app ended, or the connection stayed broken.
    """
    last: RunProgress | None = None
    unseen = 0
    disturbed: set[Turn] = set()
    began = moved = seen = time.monotonic()
    run_id, least = plan.job.run_id, plan.job.protocol.least_seconds
    turns = left = len(plan.outstanding)
    each, can_wait = least, True
    while True:
        rest_start = time.monotonic()
        try:
            ended = can_wait and phone.wait(process, patience.longest)
        except UnknownCommand:
            ended = can_wait = False
        if not ended:
            rest = patience.between if can_wait else max(patience.between, min(left * each, patience.longest))
            time.sleep(max(0.0, rest - (time.monotonic() - rest_start)))
        now = time.monotonic()
        try:
            alive = phone.is_running(process)  # first: so the progress below includes all that an ended app wrote
            current = read_progress(phone.pull(f"Documents/results/{run_id}/{run_id}.progress.json"), run_id)
            seen = now
        except CoreDeviceFailed as failure:
            if not failure.broken:
                raise
            if now - seen > patience.broken:
                raise RuntimeFailed(f"{failure}; the app continues meanwhile") from failure
            continue
        if current is not None and current.state == "failed":
            raise RuntimeFailed(f"the run failed on the device: {one_line(str(current.error))}")
        if current is not None and current.turn is not None:
            disturbed.add(current.turn)
        if current is not None and current != last:
            last, moved, left = current, now, counter.total - current.finished_turns
            if finished := turns - left:
                each = max(least, (now - began) / finished)
            counter.tell(current.finished_turns, current.what)
        if current is not None and current.state == ("paused" if first else "finished"):
            return frozenset(disturbed)
        unseen = unseen + 1 if not alive and current is None else 0
        if not alive and not 0 < unseen <= LOOKS_AFTER_THE_END:
            where = f" in {last.what}" if last and last.turn else ""
            raise RuntimeFailed(
                f"the app ended on the device{where} before the run was complete (out of memory, or closed by a "
                "person); run the command again"
            )
        if now - moved > patience.still:
            raise RuntimeFailed(
                f"the run has made no progress for {patience.still / 60:.0f} minutes; an app sleeps while the screen "
                "is locked: unlock the device, open the app, and run the command again"
            )


def read_progress(data: bytes | None, run_id: str) -> RunProgress | None:
    """Parses a progress file. Returns None if there is no progress of this run yet."""
    if data is None:
        return None
    try:
        progress = parse_model(RunProgress, data)
    except ValidationError:
        return None  # a file that is being replaced; the next check reads it whole
    return progress if progress.run_id == run_id else None
