"""What comes back from the harness: finished rounds, checked against what was asked for."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.driver import Plan
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.files import write_whole

__all__ = ["checked_run", "interrupted", "longer_stream", "stream_of", "with_looks", "write_stream"]


def checked_run(data: bytes | None, plan: Plan, kind: str) -> Run:
    """What the harness wrote at the end of its run.

    One that names no stand-in, but was fetched by a computer that is no Mac, is a stand-in's all the same.

    Args:
        kind: of the device that it has to come from, ios or mac.

    Raises:
        RuntimeFailed: missing, damaged, or of something else than this plan.
    """
    if data is None:
        raise RuntimeFailed("the run is finished, but its file is gone; run the command again")
    name = f"{plan.job.run_id}.run.json"
    try:
        run = parse_document(data.decode("utf-8", errors="replace"), Run, name)
    except InvalidInput as error:
        raise RuntimeFailed(f"{error}; run the command again, which fetches it anew") from error
    if run.job != plan.job:
        raise RuntimeFailed(f"{name} is of another job; delete the app from the device, and run the command again")
    if run.device.kind != kind:
        raise RuntimeFailed(f"{name} was measured on a device of kind {run.device.kind}, not {kind}")
    simulated = run.device.simulated or platform.system() != "Darwin"
    return run.model_copy(update={"device": run.device.model_copy(update={"simulated": simulated})})


def with_looks(run: Run, turns: Collection[Turn]) -> Run:
    """The run, with a warning at every round during which the device was asked how far it was."""
    warning = "looked at: the device was asked how far it is during this round"
    rounds = tuple(
        item.model_copy(update={"warnings": (*item.warnings, warning)})
        if Turn(cell=item.cell, round=item.round) in turns
        else item
        for item in run.rounds
    )
    return run.model_copy(update={"rounds": rounds})


def interrupted(failure: RuntimeFailed, plan: Plan) -> RuntimeFailed:
    """The failure of a run that had begun, and what is left of it."""
    rounds = plan.stream.read_bytes().count(b"\n") if plan.stream.exists() else 0
    of = len(plan.job.order)
    kept = f"{rounds} of {of} rounds are kept: add `resume=True`" if rounds else "no round was finished yet"
    return RuntimeFailed(f"{failure} ({kept})")


def longer_stream(local: Path, remote: bytes | None) -> bytes:
    """The one of two streams of the same run that holds more finished rounds; both only ever grow."""
    kept = local.read_bytes() if local.exists() else b""
    return max(kept, remote or b"", key=lambda lines: lines.count(b"\n"))


def stream_of(run: Run) -> bytes:
    """The lines of a run's rounds."""
    return b"".join(item.model_dump_json().encode() + b"\n" for item in run.rounds)


def write_stream(local: Path, lines: bytes) -> None:
    """Write it whole or not at all."""
    if lines:
        write_whole(local, lines)
