"""The guard: what every option of a session, number of threads and choice of kernels costs, in each runtime.

    python benchmarks/suites.py guard --folder bundles/             # before a change of a runtime's settings
    python benchmarks/suites.py guard --folder bundles/ --against   # after it: names what got slower

Image towers of nano and S0 at fp32 and w8a8, in turns: each round asks every row for one sample, in shuffled order. A
figure is how often the row's inference fits into a product of matrices by torch in the same round (CPU time), which no
change of ours makes slower, with its 95% interval; so what is slower in every row is seen too. CPU time of two threads
moves with what else the machine does: there a named row means something only under the same load, which is told.
Bundles are built once in the folder; then it takes less than 3 minutes. Results are kept for each kind of processor
(results/guard-1.json and so on), and are replaced by a run without `--against`. Nothing here is timed by a test.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel
from subjects import Subjects

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.benchmark.host.machine import describe
from mobileclip_deploy.benchmark.result import Device
from mobileclip_deploy.benchmark.statistics import median_interval, percentile
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets import Artifact, Target, get_target
from mobileclip_deploy.targets.benchmarking import RunnerSession, Session, SessionSetup
from mobileclip_deploy.targets.onnx.int8_sums import PRECISE

__all__ = ["GuardResult", "GuardRow", "Setting", "measured", "settings", "slower"]

VARIANTS = ("nano", "mobileclip2_s0")
PRECISIONS = ("fp32", "w8a8")
ROUNDS = 24
SHORTEST_SAMPLE = 10_000_000
"""Nanoseconds: of what is faster, a sample has several inferences."""
SAMPLES = 3
ANSWER = "guard's sample: "
SIDE = 512
Option = tuple[str, str]


@dataclass(frozen=True)
class Setting:
    """One way to set up a runtime, and on which files. `options`: instead of the place's own where their names are the
    same. `apart`: in a process of its own."""

    name: str
    target: str
    threads: int = 1
    options: tuple[Option, ...] = ()
    variants: tuple[str, ...] = VARIANTS
    precisions: tuple[str, ...] = PRECISIONS
    apart: bool = False


SETTINGS = (
    Setting("as shipped", "onnx"),
    Setting("2 threads", "onnx", threads=2),
    Setting("sums of int8 without saturation", "onnx", options=(PRECISE,)),
    Setting("as shipped", "executorch"),
    # A process has one pool of threads, and one of another size leaves the files that are loaded without theirs.
    Setting("2 threads", "executorch", threads=2, apart=True),
    Setting("as shipped", "litert"),
    Setting("2 threads", "litert", threads=2),
    Setting("float16 summed in float32", "coreai", variants=("nano",), precisions=("fp32", "fp16")),
    Setting("evaluated", "coreml", variants=("nano",)),
)
"""Every option, number of threads and flag that a runtime is given: threads that spin show as CPU time of two threads.
Whoever adds one adds a row."""


class GuardRow(BaseModel, frozen=True):
    """A setting of a runtime on one file: `ratio` of the reference's time to its own, with its 95% interval. `rounds`:
    the ratio of each round, from which another interval can be computed."""

    variant: str
    precision: str
    target: str
    setting: str
    ratio: float
    low: float
    high: float
    rounds: tuple[float, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other rows."""
        return (self.variant, self.precision, self.target, self.setting)


class GuardResult(BaseModel, frozen=True):
    """A run: `planted` are options that were put into every session of ONNX Runtime, to see that they are found;
    `load` is the load average of the last minute when it ended."""

    schema_version: int = 2
    device: Device
    rounds: int
    planted: tuple[Option, ...] = ()
    load: float | None = None
    rows: tuple[GuardRow, ...]


def slower(before: GuardResult, now: GuardResult) -> list[str]:
    """What got slower by more than both intervals allow, and what is measured no longer; in sentences."""
    known = {row.key: row for row in now.rows}
    told = []
    for row in before.rows:
        name, found = " ".join(row.key), known.get(row.key)
        if found is None:
            told.append(f"{name}: measured before, and no longer")
        elif found.high < row.low:
            told.append(
                f"{name}: takes {row.ratio / found.ratio:.2f} times as long "
                f"({row.ratio:.3g} [{row.low:.3g}, {row.high:.3g}] before, "
                f"{found.ratio:.3g} [{found.low:.3g}, {found.high:.3g}] now)"
            )
    return told


def settings(planted: Sequence[Option] = ()) -> list[tuple[str, str, Setting]]:
    """The rows: variant, precision and setting. `planted`: options of every session of ONNX Runtime."""
    return [
        (variant, precision, replace(one, options=(*one.options, *planted)) if one.target == "onnx" else one)
        for one in SETTINGS
        for variant in one.variants
        for precision in one.precisions
    ]


def measured(subjects: Subjects, planted: Sequence[Option] = (), rounds: int = ROUNDS) -> GuardResult:
    """Load every row, and take samples in turns."""
    rows = settings(planted)
    began, cpu = time.monotonic(), time.process_time()
    samples = {index: _sample_of(subjects, row, index) for index, row in enumerate(rows)}
    torch.set_num_threads(1)
    matrix = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    samples[len(rows)] = _sample(lambda: matrix @ matrix)
    times: dict[int, list[float]] = {index: [] for index in samples}
    chance = random.Random(0)
    for number in range(rounds):
        for index in chance.sample(sorted(samples), len(samples)):
            times[index].append(samples[index]())
        print(f"guard: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    spent, cpu = time.monotonic() - began, time.process_time() - cpu
    print(f"guard: {spent:.0f} s, {cpu:.0f} of CPU time", file=sys.stderr, flush=True)
    reference = times.pop(len(rows))
    found = tuple(
        _row(row, [base / own for base, own in zip(reference, times[index], strict=True)])
        for index, row in enumerate(rows)
    )
    load = round(os.getloadavg()[0], 1)
    return GuardResult(device=describe(), rounds=rounds, planted=tuple(planted), load=load, rows=found)


def _row(row: tuple[str, str, Setting], ratios: Sequence[float]) -> GuardRow:
    variant, precision, setting = row
    interval = median_interval([[ratio] for ratio in ratios])
    return GuardRow(
        variant=variant,
        precision=precision,
        target=setting.target,
        setting=setting.name,
        ratio=percentile(ratios, 0.5),
        low=interval.low,
        high=interval.high,
        rounds=tuple(ratios),
    )


def _session(subjects: Subjects, variant: str, precision: str, setting: Setting) -> Session:
    bundle = Bundle.open(subjects.bundle(variant, setting.target, precision, checked=False))
    target = get_target(setting.target)
    artifact = target.open(bundle.artifact("image"))
    session = _opened(target, artifact, bundle.manifest.options, setting)
    source = artifact.ports[0]
    values = np.random.default_rng(0).random([size or 1 for size in source.shape], np.float32)
    session.feed((values * 255 if source.dtype == "uint8" else values).astype(source.dtype))
    for _ in range(3):
        session.run()
    return session


def _opened(target: Target, artifact: Artifact, options: Mapping[str, str], setting: Setting) -> Session:
    """As a benchmark opens it; what has no place on this machine, as `verify` runs it."""
    try:
        place = target.places("host", options)[0]
    except NotRun:
        return RunnerSession(artifact.runner())
    changed = dict(place.options) | dict(setting.options)
    place = replace(place, options=tuple(changed.items()))
    return artifact.session(SessionSetup(place, setting.threads, *artifact.ports))


def _sample_of(subjects: Subjects, row: tuple[str, str, Setting], number: int) -> Callable[[], float]:
    """How a row is sampled; `number`: of the row, by which a process of its own finds it."""
    if not row[2].apart:
        return _sample(_session(subjects, *row).run)
    command = [sys.executable, __file__, str(subjects.folder), str(number)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def asked() -> float:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("sample\n")
        child.stdin.flush()
        told = (line.partition(ANSWER) for line in child.stdout)  # a runtime may print lines of its own
        return next(float(value) for _, found, value in told if found)

    return asked


def _answer(folder: Path, number: int) -> None:
    """Be the process of a row: a sample for every line, until there is none."""
    sample = _sample(_session(Subjects(folder), *settings()[number]).run)
    for _ in sys.stdin:
        print(f"{ANSWER}{sample()}", flush=True)


def _sample(run: Callable[[], object]) -> Callable[[], float]:
    """CPU nanoseconds of an inference, the least of `SAMPLES`: each as many inferences as take `SHORTEST_SAMPLE`."""
    began = time.process_time_ns()
    run()
    repeats = max(1, round(SHORTEST_SAMPLE / max(time.process_time_ns() - began, 1)))

    def timed() -> float:
        begin = time.process_time_ns()
        for _ in range(repeats):
            run()
        return (time.process_time_ns() - begin) / repeats

    return lambda: min(timed() for _ in range(SAMPLES))


def read(path: Path) -> GuardResult:
    """What a run kept."""
    return GuardResult.model_validate_json(path.read_text(encoding="utf-8"))


if __name__ == "__main__":  # as `_sample_of` starts it
    _answer(Path(sys.argv[1]), int(sys.argv[2]))
