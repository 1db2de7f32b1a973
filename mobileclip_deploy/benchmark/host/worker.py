"""Round of one cell, in its own process: load, check, warm up, time. Writes the round to stdout as JSON.

python -m mobileclip_deploy.benchmark.host.worker JOB_FOLDER CELL ROUND [--profile] [--in-turns]

With --in-turns it writes `waits` when it is warm and after every sample. It takes a sample for each line `sample` on
stdin, and finishes at the line `end`. So the cells of a round take turns (rounds.py).
The round contains the answers to the golden inputs; the starting process judges them.
"""

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
"""Limits of a sample. Disturbances hide the time of an inference that takes less than SHORT nanoseconds.

Then a sample is as many inferences as take SAMPLE nanoseconds, at most MOST. Starting the process takes longer than a
round of such samples."""


def main() -> None:
    """Runs the turn that the command line names. Redirects the output of libraries to stderr."""
    folder, name, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = read_job(folder / "job.json")
    try:
        driver = stdout if "--in-turns" in sys.argv else None
        finished = turn(folder, job, job.cell(name), number, "--profile" in sys.argv, driver)
    except Exception as error:  # any error of a runtime is the outcome of this round
        text = str(error) if isinstance(error, MobileClipDeployError) else f"{type(error).__name__}: {error}"
        finished = RoundResult.failed(job.run_id, Turn(cell=name, round=number), " ".join(text.split())[:500])
    stdout.write(finished.model_dump_json() + "\n")
    stdout.flush()
    os._exit(0)  # some runtimes' threads crash or hang while the interpreter shuts down


def turn(folder: Path, job: Job, cell: Cell, number: int, profiled: bool, driver: TextIO | None) -> RoundResult:
    """Runs round `number` of a cell of the job in `folder`.

    Args:
        driver: stream for `waits` lines. None if samples follow each other without requests.

    Raises:
        NotRun: this machine cannot run the cell.
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
            profile = tuple(OperatorTime(**asdict(kernel)) for kernel in session.profile())
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
    """Session of the checkpoint in torch: `unfolded` as trained, `folded`, or `compiled` (folded, torch.compile)."""

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
        preprocess_option = cell.options.get("preprocess")
        preprocess = CARD if preprocess_option is None else parse_model(TakenPreprocess, preprocess_option)
        model = load(path, cell.variant, size, preprocess=preprocess)
        if cell.backend == "unfolded":
            if is_folded(model):
                raise NotRun("this checkpoint is folded, so it has no unfolded form to time")
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
        values: npt.NDArray[np.float32] = self._output.numpy().reshape(-1).copy()
        return values

    def profile(self) -> tuple[KernelTime, ...]:
        import torch

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            self.run()
        events = [event for event in profiler.key_averages() if event.self_cpu_time_total > 0]
        times = [KernelTime(event.key, event.count, int(event.self_cpu_time_total * 1000)) for event in events]
        return tuple(sorted(times, key=lambda one: -one.total_ns))


def import_runtime(cell: Cell) -> None:
    """Imports the modules that a cell needs, so that the load time of a model excludes them."""
    if cell.target != CHECKPOINT:
        return get_target(cell.target or "").capabilities.packages.import_runtime()
    for module in TORCH_MODULES:
        importlib.import_module(module)


def open_session(cell: Cell, folder: Path) -> Session:
    """Loads a cell's file.

    Raises:
        NotRun: this machine cannot run the file.
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
    answers = []
    for index in range(len(inputs)):
        session.feed(inputs[index : index + 1])
        session.run()
        answers.append(session.answer())
    return np.stack(answers)


@dataclass(frozen=True)
class _Timed:
    """Times of a round, in nanoseconds.

    `samples`: wall time of an inference, the mean of each sample. `cpu`: sum of the samples' CPU times of an inference,
    over all threads. `cpu_least`: least CPU time of an inference. `together`: number of inferences in a sample,
    1 unless an inference takes less than `SHORT`.
    """

    samples: list[int]
    cpu: int
    cpu_least: int
    together: int


def _alone(protocol: Protocol) -> Iterator[None]:
    """Yields for each sample until the round is complete, at the protocol's pace."""
    began = time.perf_counter_ns()
    until = began + int(protocol.seconds_per_round * 1e9)
    count = 0
    while count < protocol.iterations_per_round or time.perf_counter_ns() < until:
        due = began + int(count * protocol.pace_milliseconds * 1e6)
        time.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
        yield
        count += 1


def _told(driver: TextIO, session: Session) -> Iterator[None]:
    """Yields for each request on stdin, between the samples of other processes."""
    while True:
        driver.write(WAITING)
        driver.flush()
        line = sys.stdin.readline()
        if line == "end\n":
            return
        if not line:
            os._exit(1)  # the driver is gone
        session.run()  # refills the caches, which other processes have used
        yield


def _time(session: Session, protocol: Protocol, driver: TextIO | None) -> _Timed:
    """Warms up, and times the inferences of a round."""
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
    """Returns the number of inferences in a sample, from the least CPU time of three inferences.

    On a busy machine, CPU time leaves out waits, and the least of three leaves out disturbances.
    """
    spent = sys.maxsize
    for _ in range(3):
        started = time.process_time_ns()
        session.run()
        spent = min(spent, time.process_time_ns() - started)
    return 1 if spent >= SHORT else min(math.ceil(SAMPLE / max(spent, 1)), MOST)


def _inputs(cell: Cell, folder: Path) -> npt.NDArray[Any]:
    """Returns the golden inputs [N, ...], or one constant input if there are none."""
    if cell.golden is not None:
        source = cell.golden.inputs
        raw = np.fromfile(folder / source.file, dtype=np.dtype(source.dtype).newbyteorder("<"))
        return raw.reshape(source.shape).astype(source.dtype, copy=False)
    if cell.tower == "image":
        value = 127 if cell.input.dtype == "uint8" else 0.5
        return np.full(cell.input.shape, value, dtype=cell.input.dtype)
    return np.ones(cell.input.shape, dtype=cell.input.dtype)  # a token that every vocabulary has


def _peak_memory() -> int:
    """Returns the peak memory of this process, in bytes."""
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
