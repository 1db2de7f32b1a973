"""Speed measurement of artifacts: sessions that load an artifact and time only its call."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.values import Runner, RuntimePlace, TensorInfo


@dataclass(frozen=True)
class SessionSetup:
    """Setup of a session: a place, a number of threads, and the artifact's input and output at batch 1."""

    place: RuntimePlace
    threads: int
    input: TensorInfo
    output: TensorInfo


@dataclass(frozen=True)
class Work:
    """Computation and memory traffic of a call, where a runtime reports them.

    Attributes:
        arithmetic_operations: multiplications and additions of products and convolutions; 0 if it has none.
        moved_bytes: bytes of its inputs, weights and outputs, each counted once.
        kind: kind of a convolution, such as `7x7 depthwise`.
        arithmetic: type of the multiplied elements; None if nothing is multiplied.
    """

    arithmetic_operations: int
    moved_bytes: int
    kind: str | None = None
    arithmetic: Literal["float32", "float16", "int8"] | None = None


@dataclass(frozen=True)
class KernelTime:
    """Total time of the operators of one type and kind of work in one inference; `work` sums all their calls."""

    operator: str
    calls: int
    total_ns: int
    work: Work | None = None


class Session(ABC):
    """One artifact in memory. Only `run` is timed; `feed` and `answer` convert input and output."""

    output: Any = None
    """Output of the last `run`, [1, D] or [D]."""

    @abstractmethod
    def feed(self, values: Array) -> None:
        """Sets the input [1, ...], in the type of the setup's input."""

    @abstractmethod
    def run(self) -> None:
        """Runs one inference."""

    def answer(self) -> npt.NDArray[np.float32]:
        """Returns the output of the last inference, float32 [D]."""
        return np.asarray(self.output, dtype=np.float32).reshape(-1)

    def profile(self) -> tuple[KernelTime, ...]:
        """Returns operator times of one inference, the most expensive first.

        Raises:
            NotRun: the runtime has no profiler here.
        """
        raise NotRun("this runtime has no profiler in its Python package")


class RunnerSession(Session):
    """Session of a target's `Runner`; the runner's own conversions are part of the measured time."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._input: Array = np.empty(0)

    def feed(self, values: Array) -> None:
        if values.dtype == np.uint8:  # pixels as Core ML takes them: runners take [0, 1]
            self._input = values.astype(np.float32) / 255
        else:
            self._input = values.astype(np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32)

    def run(self) -> None:
        self.output = self._runner(self._input)  # [1, D]


def by_work(calls: Iterable[tuple[str, int, Work | None]]) -> tuple[KernelTime, ...]:
    """Groups calls (operator, nanoseconds, work) into one row per operator and kind, the most expensive first."""
    grouped = defaultdict[tuple[object, ...], list[tuple[str, int, Work | None]]](list)
    for call in calls:
        operator, _, work = call
        grouped[operator, work and work.kind, work and work.arithmetic, work is None].append(call)
    rows = []
    for same in grouped.values():
        works, total = [work for *_, work in same if work], same[0][2]
        if total:
            operations = sum(work.arithmetic_operations for work in works)
            total = replace(
                total, arithmetic_operations=operations, moved_bytes=sum(work.moved_bytes for work in works)
            )
        rows.append(KernelTime(same[0][0], len(same), sum(spent for _, spent, _ in same), total))
    return tuple(sorted(rows, key=lambda one: (-one.total_ns, one.operator)))
