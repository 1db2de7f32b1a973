"""How a turn takes its samples: one inference each, or the mean of several where one is too short to be steady."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.host import worker
from mobileclip_deploy.benchmark.job import Protocol
from mobileclip_deploy.targets.benchmarking import Session

PROTOCOL = Protocol(
    name="three",
    warm_up_iterations=1,
    rounds=1,
    iterations_per_round=3,
    seconds_per_round=0,
    reload_each_round=False,
    trim_fraction=0,
    statistic="median",
)


class Counted(Session):
    """Spends CPU time, and counts."""

    def __init__(self, spends_ns: int) -> None:
        self.runs, self._spends = 0, spends_ns

    def feed(self, values: npt.NDArray[np.generic]) -> None:
        """Nothing is asked."""

    def run(self) -> None:
        self.runs += 1
        until = time.process_time_ns() + self._spends
        while time.process_time_ns() < until:
            pass

    def answer(self) -> npt.NDArray[np.float32]:
        return np.zeros(1, np.float32)


def test_an_inference_of_a_millisecond_or_more_is_a_sample() -> None:
    session = Counted(worker.SHORT)
    samples, cpu, together = worker._time(session, PROTOCOL)
    assert (len(samples), together, session.runs) == (3, 1, 1 + 1 + 3)  # warm-up, the one that tells how short it is
    assert cpu >= 3 * worker.SHORT


def test_shorter_ones_are_taken_together_and_told_for_one() -> None:
    session = Counted(100_000)
    samples, cpu, together = worker._time(session, PROTOCOL)
    assert 1 < together <= worker.SAMPLE // 100_000
    assert (len(samples), session.runs) == (3, 1 + 1 + 3 * together)
    assert cpu >= 3 * 100_000
    assert min(samples) >= 100_000 * 0.99  # two clocks
