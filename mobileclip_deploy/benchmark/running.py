"""A benchmark from request to result file, begun anew or gone on with."""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_job, write_document
from mobileclip_deploy.benchmark.driver import Driver, Plan, Progress
from mobileclip_deploy.benchmark.job import Job, Protocol
from mobileclip_deploy.benchmark.planning import Request, build_job
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.benchmark.stream import read_stream
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import check_file_destination

__all__ = ["Outcome", "default_output", "run_benchmark"]


@dataclass(frozen=True)
class Outcome:
    """A result, and a line for everything that was asked for and could not be run on the device."""

    result: Result
    left_out: tuple[str, ...]


def default_output(driver: Driver) -> Path:
    """`benchmark-<kind>-<UTC time>.json` in the working directory."""
    return Path(f"benchmark-{driver.kind}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json")


def run_benchmark(
    request: Request,
    driver: Driver,
    protocol: Protocol,
    output: Path,
    progress: Progress,
    *,
    seed: int | None = None,
    resume: bool = False,
    force: bool = False,
    profile: bool = False,
) -> Outcome:
    """Run what is asked for and write the result to `output`.

    Until then everything is in `<output>.partial/`: what an interruption leaves there, `resume` goes on with.

    Raises:
        UsageError: `output` exists, or an interrupted run stands there and `resume` was not given, or the other way
            round, or another run was interrupted.
        NotRun: the device runs nothing of it.
        RuntimeFailed: the device was lost.
    """
    check_file_destination(output, force or resume)
    folder = output.with_name(f"{output.name}.partial")
    stored = _interrupted(folder, output, resume)
    run_id = stored.run_id if stored else _run_id(driver.kind)
    if stored and seed not in (None, stored.seed):
        raise UsageError(f"--seed {seed}: the interrupted run was shuffled with {stored.seed}; leave --seed out")
    chosen = stored.seed if stored else secrets.randbelow(2**31) if seed is None else seed
    folder.mkdir(parents=True, exist_ok=True)
    try:
        job, left_out = build_job(request, driver, protocol, chosen, run_id, folder)
        if stored and job != stored:
            raise UsageError(f"{folder} is of a run with other bundles or options: repeat those, or delete the folder")
        write_document(folder / "job.json", job)
        result = complete(driver.run(Plan(folder, job, profile), progress))
    finally:
        if not any(folder.glob("*.rounds.jsonl")):  # nothing was finished: nothing to go on with
            shutil.rmtree(folder)
    write_document(output, result)
    shutil.rmtree(folder)
    return Outcome(result, left_out)


def _run_id(kind: str) -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{kind}-{secrets.token_hex(2)}"


def _interrupted(folder: Path, output: Path, resume: bool) -> Job | None:
    """The job of an interrupted run, if it is to go on."""
    file = folder / "job.json"
    if not file.exists():
        if resume:
            raise UsageError(f"there is no interrupted run at {folder}; leave --resume out")
        return None
    job = read_job(file)
    done = len(read_stream(folder / f"{job.run_id}.rounds.jsonl", job))
    if resume:
        return job
    if done:
        whole = len(job.order)
        raise UsageError(f"{folder} holds {done} of {whole} rounds of an interrupted run: add --resume, or delete it")
    shutil.rmtree(folder)
    return None
