"""A round of one cell, in a process of its own: load, check, warm up, time; the round goes to stdout as JSON.

python -m mobileclip_deploy.benchmark.host.worker JOB_FOLDER CELL ROUND [--profile] [--in-turns]

With --in-turns it says `waits` when it is warm and after every sample, takes one for each line `sample` on stdin, and
goes on to its end at the line `end`: so the cells of a round take turns (rounds.py).
The answers to the golden inputs go into the round, to be judged by whoever started this process.
"""

from __future__ import annotations

import base64
import gc
import importlib
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.benchmark.documents import read_job
from mobileclip_deploy.benchmark.job import CHECKPOINT, Cell, Job, Protocol, Turn
from mobileclip_deploy.benchmark.result import OperatorTime, RoundResult
from mobileclip_deploy.errors import MobileClipDeployError, NotRun
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup
from mobileclip_deploy.targets.values import RuntimePlace, TensorInfo

WAITING = "waits\n"
TORCH_MODULES = (
    "torch",
    "mobileclip_deploy.network.checkpoints",
    "mobileclip_deploy.network.folding",
    "mobileclip_deploy.artifacts.towers",
)
SHORT, SAMPLE, MOST = 5_000_000, 50_000_000, 1000
"""An inference of less than SHORT nanoseconds is told less than what disturbs it: so many that they take SAMPLE, MOST
at most, make one sample then. Starting the process takes longer than a round of such samples."""


def main() -> None:
    """Run the turn that the command line names; what libraries print goes to stderr."""
    folder, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = read_job(folder / "job.json")
    try:
        driver = stdout if "--in-turns" in sys.argv else None
        finished = turn(folder, job, job.cell(name), number, "--profile" in sys.argv, driver)
    except Exception as error:  # whatever a runtime raises is the outcome of this round
        text = str(error) if isinstance(error, MobileClipDeployError) else f"{type(error).__name__}: {error}"
        finished = RoundResult.failed(job.run_id, Turn(cell=name, round=number), " ".join(text.split())[:500])
    stdout.write(finished.model_dump_json() + "\n")
    stdout.flush()
    os._exit(0)  # some runtimes' threads crash or hang while an interpreter with them comes down


def turn(folder: Path, job: Job, cell: Cell, number: int, profiled: bool, driver: TextIO | None) -> RoundResult:
    """Round `number` of a cell of the job in `folder`.

    Args:
        driver: whom to tell that a sample can be taken; None: they follow one another.

    Raises:
        NotRun: this machine has nothing that can run it.
    """
    inputs = _inputs(cell, folder)
    import_runtime(cell)
    load_first, session = _load(cell, folder)
    load_again = None
    if number == 0:
        del session
        gc.collect()
        load_again, session = _load(cell, folder)
    session.feed(inputs[:1])
    started = time.perf_counter_ns()
    session.run()
    first = time.perf_counter_ns() - started
    answers = None
    if number == 0 and cell.golden is not None:
        count = min(job.protocol.golden_inputs or len(inputs), len(inputs))
        answers = base64.b64encode(_answers(session, inputs[:count]).astype("<f4").tobytes())
        session.feed(inputs[:1])
    timed = _time(session, job.protocol, driver)
    memory = _peak_memory()
    warnings: tuple[str, ...] = ()
    profile: tuple[OperatorTime, ...] = ()
    if profiled and number == 0:
        try:
            profile = tuple(OperatorTime(**asdict(one)) for one in session.profile())
        except NotRun as error:
            warnings = (f"not profiled: {error}",)
    return RoundResult(
        run_id=job.run_id,
        cell=cell.id,
        round=number,
        status="done",
        load_first_ns=load_first,
        load_again_ns=load_again,
        first_inference_ns=first,
        samples_ns=tuple(timed.samples),
        cpu_ns=timed.cpu,
        cpu_least_ns=timed.cpu_least,
        inferences_per_sample=timed.together if timed.together > 1 else None,
        peak_memory_bytes=memory,
        answers=answers,
        profile=profile,
        warnings=warnings,
    )


class TorchSession(Session):
    """The checkpoint itself in torch: `unfolded` as it was trained, `folded`, or `compiled` (folded, torch.compile)."""

    def __init__(self, cell: Cell, path: Path) -> None:
        import torch

        from mobileclip_deploy.artifacts.towers.tower import ImageTower, TextTower
        from mobileclip_deploy.network.checkpoints.loading import load
        from mobileclip_deploy.network.checkpoints.preprocessing import CARD
        from mobileclip_deploy.network.folding import fold, is_folded
        from mobileclip_deploy.network.model.provenance import TakenPreprocess

        torch.set_num_threads(cell.threads)
        torch.set_grad_enabled(False)
        size = cell.input.shape[-1] if cell.tower == "image" else None
        said = cell.options.get("preprocess")
        taken = CARD if said is None else parse_model(TakenPreprocess, said)
        model = load(path, cell.variant, size, preprocess=taken)
        if cell.backend == "unfolded":
            if is_folded(model):
                raise NotRun("this checkpoint is folded: there is no unfolded form of it to time")
        elif not is_folded(model):
            fold(model)
        tower: Any = (ImageTower if cell.tower == "image" else TextTower)(model).eval()
        self._module = torch.compile(tower) if cell.backend == "compiled" else tower
        self._input: Any = None
        self._output: Any = None

    def feed(self, values: npt.NDArray[Any]) -> None:
        import torch

        self._input = torch.from_numpy(np.ascontiguousarray(values))

    def run(self) -> None:
        self._output = self._module(self._input)

    def answer(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._output.numpy().reshape(-1).copy()
        return found

    def profile(self) -> tuple[KernelTime, ...]:
        import torch

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            self.run()
        events = [event for event in found.key_averages() if event.self_cpu_time_total > 0]
        times = [KernelTime(event.key, event.count, int(event.self_cpu_time_total * 1000)) for event in events]
        return tuple(sorted(times, key=lambda one: -one.total_ns))


def import_runtime(cell: Cell) -> None:
    """Import what a cell needs, so that loading a model is not charged for loading Python modules."""
    if cell.target != CHECKPOINT:
        return get_target(cell.target or "").abilities.import_runtime()
    for module in TORCH_MODULES:
        importlib.import_module(module)


def open_session(cell: Cell, folder: Path) -> Session:
    """Load a cell's file.

    Raises:
        NotRun: this machine has nothing that can run it.
    """
    path = folder / cell.file
    if cell.target == CHECKPOINT:
        return TorchSession(cell, path)
    options = tuple((name, value) for name, value in cell.options.items() if name != "function")
    setup = SessionSetup(
        place=RuntimePlace(cell.runtime, cell.backend, cell.compute_units, options),
        threads=cell.threads,
        input=TensorInfo(cell.input.name, cell.input.dtype, cell.input.shape),
        output=TensorInfo(cell.output.name, cell.output.dtype, cell.output.shape),
    )
    return get_target(cell.target or "").open(path, cell.options.get("function")).session(setup)


def _load(cell: Cell, folder: Path) -> tuple[int, Session]:
    started = time.perf_counter_ns()
    session = open_session(cell, folder)
    return time.perf_counter_ns() - started, session


def _answers(session: Session, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    found = []
    for number in range(len(inputs)):
        session.feed(inputs[number : number + 1])
        session.run()
        found.append(session.answer())
    return np.stack(found)


@dataclass(frozen=True)
class _Timed:
    """Wall nanoseconds of each sample; CPU nanoseconds of all threads, of all samples together and of the inference
    that took the least; and of how many inferences a sample is the mean: of one, unless one takes less than `SHORT`."""

    samples: list[int]
    cpu: int
    cpu_least: int
    together: int


def _alone(protocol: Protocol) -> Iterator[None]:
    """Samples one after another, until a round is done."""
    began = time.perf_counter_ns()
    until = began + int(protocol.seconds_per_round * 1e9)
    taken = 0
    while taken < protocol.iterations_per_round or time.perf_counter_ns() < until:
        due = began + int(taken * protocol.pace_milliseconds * 1e6)
        time.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
        yield
        taken += 1


def _told(driver: TextIO, session: Session) -> Iterator[None]:
    """Samples when stdin says so, between those of other processes."""
    while True:
        driver.write(WAITING)
        driver.flush()
        line = sys.stdin.readline()
        if line == "end\n":
            return
        if not line:
            os._exit(1)  # the driver is gone
        session.run()  # what others left in the caches is no part of the sample
        yield


def _time(session: Session, protocol: Protocol, driver: TextIO | None) -> _Timed:
    """A round's inferences."""
    for _ in range(protocol.warm_up_iterations):
        session.run()
    together = 1 if protocol.pace_milliseconds else _together(session)
    samples: list[int] = []
    processed, least = 0, sys.maxsize
    gc.disable()
    for _ in _told(driver, session) if driver else _alone(protocol):
        started, before = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(together):
            session.run()
            after = time.process_time_ns()
            processed += after - before
            least = min(least, after - before)
            before = after
        samples.append((time.perf_counter_ns() - started) // together)
    gc.enable()
    return _Timed(samples, processed // together, least, together)


def _together(session: Session) -> int:
    """How many inferences make a sample, by the CPU time of one, the least of three: on a busy machine too, what waits
    is not short, and what is disturbed is not long."""
    spent = sys.maxsize
    for _ in range(3):
        started = time.process_time_ns()
        session.run()
        spent = min(spent, time.process_time_ns() - started)
    return 1 if spent >= SHORT else min(math.ceil(SAMPLE / max(spent, 1)), MOST)


def _inputs(cell: Cell, folder: Path) -> npt.NDArray[Any]:
    """The golden inputs [N, ...], or one constant input where there are none."""
    if cell.golden is not None:
        source = cell.golden.inputs
        raw = np.fromfile(folder / source.file, dtype=np.dtype(source.dtype).newbyteorder("<"))
        return raw.reshape(source.shape).astype(source.dtype, copy=False)
    if cell.tower == "image":
        value = 127 if cell.input.dtype == "uint8" else 0.5
        return np.full(cell.input.shape, value, dtype=cell.input.dtype)
    return np.ones(cell.input.shape, dtype=cell.input.dtype)  # a token that every vocabulary has


def _peak_memory() -> int:
    """The most that this process has had in memory, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        from mobileclip_deploy.benchmark.host import windows

        return windows.peak_memory_bytes()
    else:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main()
