"""The host's driver: starts a process for every turn, judges its answers, and keeps what it found."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mobileclip_deploy.benchmark.answers import judge
from mobileclip_deploy.benchmark.counting import RoundCounter
from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.driver import Driver, Listing, Plan
from mobileclip_deploy.benchmark.golden import outcome
from mobileclip_deploy.benchmark.host.machine import describe, snapshot
from mobileclip_deploy.benchmark.job import CHECKPOINT, Cell, Job, Turn
from mobileclip_deploy.benchmark.result import Environment, Harness, Peak, RoundResult, Run
from mobileclip_deploy.benchmark.stream import append, outstanding, read_stream
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.progress import Progress
from mobileclip_deploy.targets import get_target, targets

__all__ = ["HostDriver"]

# Loading and compiling a large tower takes minutes on a slow machine; an inference never does.
PATIENCE_SECONDS = 900


class HostDriver(Driver):
    """This machine."""

    kind = "host"
    devices = "this host"
    runs_checkpoints = takes_pictures = True

    def __init__(self, selector: str | None = None) -> None:
        if selector is not None:
            raise UsageError(f"`device='host:{selector}'`: there is one host; write `device='host'`")
        super().__init__(selector)

    def discover(self) -> tuple[Listing, ...]:
        device = describe()
        timed = {one.runtime_package or one.packages[0]: one.extra for one in targets().values() if one.foreign_suffix}
        missing = {name: extra for name, extra in timed.items() if importlib.util.find_spec(name) is None}
        extras = ",".join(str(extra) for extra in missing.values())
        remedy = f"without {' and '.join(missing)}: pip install 'mobileclip-deploy[{extras}]'" if missing else None
        name = f"{device.model}, {device.cores} cores, {device.os} {device.architecture}"
        return (Listing("host", name, "ready", remedy),)

    def run(self, plan: Plan, progress: Progress) -> Run:
        job = plan.job
        before = plan.environment_before(snapshot)
        progress("the limit of this machine")
        peaks = [_peak(threads, progress) for threads in sorted({cell.threads for cell in job.cells})]
        counter = RoundCounter(len(job.order), progress)
        while turns := outstanding(job, read_stream(plan.stream, job)):
            counter.tell(len(job.order) - len(turns), job.cell(turns[0].cell).label)
            append(plan.stream, _run_turn(plan, turns[0]))
        counter.tell(len(job.order), "done")
        return Run(
            schema_version=1,
            run_id=job.run_id,
            job=job,
            device=describe(),
            harness=Harness(
                name="mobileclip_deploy.benchmark.host", version=importlib.metadata.version("mobileclip-deploy")
            ),
            runtimes=_versions(job),
            environment=Environment(before=before, after=snapshot()),
            peaks=tuple(peak for peak in peaks if peak is not None),
            rounds=read_stream(plan.stream, job),
        )


def _peak(threads: int, progress: Progress) -> Peak | None:
    """What the probe finds, in a process of its own, as every cell is; None where it fails, of which is told."""
    command = [sys.executable, "-m", "mobileclip_deploy.benchmark.host.peak", str(threads)]
    try:
        done = subprocess.run(
            command, env=_environment(threads), capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        progress(f"the limit of this machine was not found within {PATIENCE_SECONDS} s: no share of it is told")
        return None
    if done.returncode == 0 and done.stdout.strip():
        return parse_document(done.stdout, Peak, "the probe of this machine's limit")
    progress(f"the limit of this machine was not found, {_death(done)}: no share of it is told")
    return None


def _versions(job: Job) -> dict[str, str]:
    """Of every runtime of the job, by its name."""
    names = {cell.runtime: cell.target or "" for cell in sorted(job.cells, key=lambda cell: cell.runtime)}
    return {
        runtime: importlib.metadata.version("torch") if name == CHECKPOINT else get_target(name).runtime_version()
        for runtime, name in names.items()
    }


def _run_turn(plan: Plan, turn: Turn) -> RoundResult:
    cell = plan.job.cell(turn.cell)
    with tempfile.TemporaryDirectory(prefix="mobileclip-benchmark-") as folder:
        answers = Path(folder) / "answers.npy"
        finished = _spawn(plan, cell, turn, answers)
        if cell.golden is not None and answers.exists():
            found = outcome(cell, plan.folder, np.load(answers))
            finished = finished.model_copy(update={"golden": found})
        # Judged here as well as in the result: an invalid round ends the turns of its cell.
        return judge(finished, cell, plan.job.protocol)


def _spawn(plan: Plan, cell: Cell, turn: Turn, answers: Path) -> RoundResult:
    command = [sys.executable, "-m", "mobileclip_deploy.benchmark.host.worker"]
    command += [str(plan.folder), cell.id, str(turn.round), str(answers), *(["--profile"] if plan.profile else [])]
    failed = RoundResult(run_id=plan.job.run_id, cell=cell.id, round=turn.round, status="failed")
    patience = PATIENCE_SECONDS + 2 * plan.job.protocol.seconds_per_round
    try:
        done = subprocess.run(
            command, env=_environment(cell.threads), capture_output=True, text=True, timeout=patience, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return failed.model_copy(update={"error": f"no answer within {patience:.0f} s; the process was ended"})
    if done.returncode == 0 and done.stdout.strip():
        return parse_document(done.stdout, RoundResult, f"the process of cell {cell.id}")
    return failed.model_copy(update={"error": _death(done)})


def _environment(threads: int) -> dict[str, str]:
    """Every pool of the size asked for, and none that spins while it waits."""
    pools = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    return os.environ | pools | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "PYTHONPATH": path}


def _death(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process ended without a round, in one line."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = done.stderr.strip().splitlines() or ["nothing was printed"]
    return f"the process ended with code {done.returncode}: {lines[-1][:300]}"
