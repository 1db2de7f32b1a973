"""How a turn takes its samples: one inference each, or the mean of several where one is too short to be steady."""

import itertools
import time

import numpy as np
import numpy.typing as npt
import pytest

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


def test_an_inference_that_is_not_short_is_a_sample() -> None:
    session = Counted(worker.SHORT)
    timed = worker._time(session, PROTOCOL, None)
    # The warm-up, three that tell how short one is, and the samples.
    assert (len(timed.samples), timed.together, session.runs) == (3, 1, 1 + 3 + 3)
    assert timed.cpu >= 3 * timed.cpu_least >= 3 * worker.SHORT


def test_shorter_ones_are_taken_together_and_told_for_one() -> None:
    session = Counted(100_000)
    timed = worker._time(session, PROTOCOL, None)
    assert 1 < timed.together <= worker.SAMPLE // 100_000
    assert (len(timed.samples), session.runs) == (3, 1 + 3 + 3 * timed.together)
    assert timed.cpu >= 3 * timed.cpu_least >= 3 * 100_000
    assert min(timed.samples) >= 100_000 * 0.99  # two clocks


def test_what_disturbs_some_inferences_does_not_change_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.accumulate([*[0, 9_000_000] * 3, 0, 9_000_000, 0, 2_000_000, 0, 7_000_000])
    monkeypatch.setattr(worker.time, "process_time_ns", lambda: next(clock))

    class Still(Counted):
        def run(self) -> None:
            self.runs += 1

    timed = worker._time(Still(0), PROTOCOL, None)
    assert (timed.cpu, timed.cpu_least, timed.together) == (18_000_000, 2_000_000, 1)
