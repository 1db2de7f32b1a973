"""The stream of finished rounds: appended line by line to the disk, read back after whatever happened."""

from __future__ import annotations

import os
from pathlib import Path

from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.job import Job, Turn
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.errors import InvalidInput


def append(path: Path, finished: RoundResult) -> None:
    """Append one line, on the disk before this returns; what an interruption left of a line is cut off first."""
    with path.open("a+b") as stream:
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
        stream.write(finished.model_dump_json().encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_stream(path: Path, job: Job) -> tuple[RoundResult, ...]:
    """The finished rounds; none where there is no file. What an interruption left of a last line does not count.

    Raises:
        InvalidInput: a whole line is no round of this job, or a round stands there twice.
    """
    return parse_stream(path.read_bytes(), job, str(path)) if path.exists() else ()


def parse_stream(content: bytes, job: Job, name: str) -> tuple[RoundResult, ...]:
    """The finished rounds in a stream's bytes, see `read_stream`; `name` is where they came from."""
    *lines, _ = content.split(b"\n")
    found: dict[Turn, RoundResult] = {}
    for number, line in enumerate(lines, start=1):
        try:
            finished = parse_document(line.decode(errors="replace"), RoundResult, "it")
        except InvalidInput as error:
            raise InvalidInput(f"{name}, line {number}: no round ({error}); delete the file, run again") from error
        turn = Turn(cell=finished.cell, round=finished.round)
        if finished.run_id != job.run_id or turn not in job.order or turn in found:
            raise InvalidInput(f"{name}, line {number}: not a round of run {job.run_id}; delete the file, run again")
        found[turn] = finished
    return tuple(found.values())


def outstanding(job: Job, finished: tuple[RoundResult, ...]) -> tuple[Turn, ...]:
    """The turns still to be run: not those that are there, and none of a cell that failed or answered wrongly."""
    done = {(item.cell, item.round) for item in finished}
    stopped = {item.cell for item in finished if item.status != "done"}
    return tuple(turn for turn in job.order if (turn.cell, turn.round) not in done and turn.cell not in stopped)
