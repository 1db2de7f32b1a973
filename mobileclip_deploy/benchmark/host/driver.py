"""The host's driver: starts a process for every turn, judges its answers, and keeps what it found."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.documents import parse_document, write_document
from mobileclip_deploy.benchmark.driver import ComputeUnits, Driver, Listing, Place, Plan, Progress
from mobileclip_deploy.benchmark.golden import judge
from mobileclip_deploy.benchmark.host.machine import describe, snapshot
from mobileclip_deploy.benchmark.job import Cell, Turn
from mobileclip_deploy.benchmark.result import Environment, Harness, Result, RoundResult, Snapshot
from mobileclip_deploy.benchmark.stream import append, outstanding, read_stream
from mobileclip_deploy.errors import NotRun, UsageError

__all__ = ["HostDriver"]

# Loading and compiling a large tower takes minutes on a slow machine; an inference never does.
PATIENCE_SECONDS = 900
SPINNING_OFF = (("session.intra_op.allow_spinning", "0"), ("session.inter_op.allow_spinning", "0"))
UNITS: tuple[ComputeUnits, ...] = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
PACKAGES = {"onnxruntime": "onnxruntime", "executorch": "executorch", "torch": "torch", "coreml": "coremltools"}


class HostDriver(Driver):
    """This machine."""

    kind = "host"

    def __init__(self, selector: str | None = None) -> None:
        if selector is not None:
            raise UsageError(f"--device host:{selector}: there is one host; write --device host")
        super().__init__(selector)

    def discover(self) -> tuple[Listing, ...]:
        device = describe()
        missing = [package for package in ("onnxruntime", "executorch") if importlib.util.find_spec(package) is None]
        remedy = f"without {' and '.join(missing)}: pip install 'mobileclip-deploy[all]'" if missing else None
        name = f"{device.model}, {device.cores} cores, {device.os} {device.architecture}"
        return (Listing("host", name, "ready", remedy),)

    def places(self, target: str, options: dict[str, str]) -> tuple[Place, ...]:
        if target == "torch":
            return (Place("torch"),)
        if target == "coreml":
            if platform.system() != "Darwin":
                raise NotRun("Core ML exists on macOS only (the evaluator's time is no latency)")
            return tuple(Place("coreml", compute_units=unit) for unit in UNITS)
        if target == "onnx":
            places = (Place("onnxruntime", "cpu", options=SPINNING_OFF),)
        else:
            backend = options.get("backend", "xnnpack")
            if backend != "xnnpack":
                raise NotRun(f"of ExecuTorch only xnnpack runs on this host, not {backend}")
            places = (Place("executorch", backend),)
        package = PACKAGES[places[0].runtime]
        if importlib.util.find_spec(package) is None:
            raise NotRun(f"{package} is not installed; type: pip install 'mobileclip-deploy[{target}]'")
        return places

    def run(self, plan: Plan, progress: Progress) -> Result:
        job = plan.job
        before = _before(plan.folder / "environment-before.json")
        turns = outstanding(job, read_stream(plan.stream, job))
        while turns:
            turn = turns[0]
            progress(len(job.order) - len(turns), len(job.order), job.cell(turn.cell).label)
            append(plan.stream, _run_turn(plan, turn))
            turns = outstanding(job, read_stream(plan.stream, job))
        progress(len(job.order), len(job.order), "done")
        used = {cell.runtime: PACKAGES[cell.runtime] for cell in job.cells}
        version = importlib.metadata.version
        return assemble(
            job,
            read_stream(plan.stream, job),
            describe(),
            Harness(name="mobileclip_deploy.benchmark.host", version=version("mobileclip-deploy")),
            {runtime: version(package) for runtime, package in sorted(used.items())},
            Environment(before=before, after=snapshot()),
        )


def _before(path: Path) -> Snapshot:
    """The state before the first round, which a run that goes on keeps."""
    if path.exists():
        return parse_document(path.read_text(encoding="utf-8"), Snapshot, str(path))
    found = snapshot()
    write_document(path, found)
    return found


def _run_turn(plan: Plan, turn: Turn) -> RoundResult:
    cell = plan.job.cell(turn.cell)
    with tempfile.TemporaryDirectory(prefix="mobileclip-benchmark-") as folder:
        answers = Path(folder) / "answers.npy"
        finished = _spawn(plan, cell, turn, answers)
        if finished.status != "done" or cell.golden is None or not answers.exists():
            return finished
        return judge(finished, cell, plan.folder, np.load(answers))


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
