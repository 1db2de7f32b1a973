"""Sampling of inputs for slow runtimes, an estimate of the duration, and background computation of answers."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.towers.arithmetic import tower_arithmetic
from mobileclip_deploy.network.model.variants import TowerName, load_variant
from mobileclip_deploy.targets import Runner, Target

Answers = npt.NDArray[np.float32]

# Inputs per tower in the quick checks.
QUICK = 2
# Shorter durations are not reported.
LEAST_SECONDS = 60


def sample_size(target: Target, variant: str, size: int, tower: TowerName, thorough: bool = True) -> int | None:
    """Returns the number of inputs that the target's runtime runs for a tower. None for all inputs.

    Args:
        variant: name of its card, which gives the operations of an inference.
        size: of its images, in pixels.
        thorough: False for the quick checks.

    Raises:
        UsageError: no such variant.
    """
    pace = target.capabilities.places.slow_runtime
    if pace is None:
        return None
    operations = _operations(variant, size, tower)
    count = QUICK if operations is None else pace.inputs(operations)
    return count if thorough else min(count, QUICK)


def _operations(variant: str, size: int, tower: TowerName) -> int | None:
    return tower_arithmetic(variant, tower, size if tower == "image" else load_variant(variant).tokens.context_length)


def spread_rows(inputs: npt.NDArray[np.generic], tower: TowerName, count: int) -> npt.NDArray[np.intp]:
    """Returns ascending indices of `count` inputs, spread over all of them. Images are spread in their order. Rows of
    ids [N, L] are spread by the number of ids that differ from the last one. So the shortest and the longest prompt are
    included."""
    order = np.arange(len(inputs))
    if count >= len(inputs):
        return order
    if tower == "text":
        order = np.argsort((inputs != inputs[:, -1:]).sum(axis=1), kind="stable")
    positions = np.linspace(0, len(inputs) - 1, count).round().astype(np.intp)
    return np.sort(order[positions])


def sampled_rows(
    target: Target, variant: str, size: int, tower: TowerName, inputs: npt.NDArray[np.generic], thorough: bool = True
) -> npt.NDArray[np.intp]:
    """Returns ascending indices of the inputs [N, ...] that the target's runtime runs for a tower; all inputs for a
    fast runtime.

    Args:
        variant, size, thorough: see `sample_size`.

    Raises:
        UsageError: no such variant.
    """
    count = sample_size(target, variant, size, tower, thorough)
    return spread_rows(inputs, tower, len(inputs) if count is None else count)


def duration_notice(
    target: Target, variant: str, size: int, precisions: Mapping[TowerName, str], thorough: bool = True
) -> str | None:
    """Returns a sentence on the expected duration of a slow runtime. None below one minute.

    The seconds are the product of an inference's operations, the inputs, and the measured seconds per 10^9 operations
    on one machine. They count the tower's own precision, and float32 for the twin in the thorough checks.

    Raises:
        UsageError: no such variant.
    """
    pace, seconds, inputs = target.capabilities.places.slow_runtime, 0.0, 0
    if pace is None:
        return None
    for tower, precision in precisions.items():
        count = sample_size(target, variant, size, tower, thorough) or 0
        passes = ["float32" if precision == "fp32" else "float16", *(["float32"] if thorough else [])]
        seconds += count * (_operations(variant, size, tower) or 0) / 1e9 * sum(pace.seconds[name] for name in passes)
        inputs += count
    if seconds < LEAST_SECONDS:
        return None
    fewer = sum(sample_size(target, variant, size, tower, thorough=False) or 0 for tower in precisions)
    quick = f"; the quick checks run {fewer}" if fewer < inputs else ""
    minutes = f"about {max(1, round(seconds / 60))} min of CPU time"
    return f"{target.title}: {minutes} for {inputs} inputs in the vendor's runtime{quick}."


class PrefetchedAnswers:
    """Answers of a bundle's runners, computed one input at a time in a background thread while other bundles are made.
    This uses one core.

    If the answers are needed early, the caller's thread computes the remaining ones too, so that no core waits.

    Args:
        requests: a loaded runner of each tower, safe for two threads at once, and its inputs [N, ...].
    """

    def __init__(self, requests: Mapping[TowerName, tuple[Runner, npt.NDArray[np.generic]]]) -> None:
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._pending: dict[TowerName, list[tuple[Future[Answers], Runner, npt.NDArray[np.generic]]]] = {}
        for tower, (runner, inputs) in requests.items():
            rows = (inputs[index : index + 1] for index in range(len(inputs)))
            self._pending[tower] = [(self._pool.submit(runner, row), runner, row) for row in rows]

    def answers(self, tower: TowerName) -> Answers | None:
        """Returns the answers of a tower, [N, D], and waits for them. None if the tower was not requested, or its
        answers were already returned.

        Raises:
            MobileClipDeployError: any error of its runner.
        """
        jobs = self._pending.pop(tower, None)
        if jobs is None:
            return None
        # From the end: the rows that the thread has not started.
        answers = [runner(row) if answer.cancel() else answer for answer, runner, row in reversed(jobs)]
        return np.concatenate([item.result() if isinstance(item, Future) else item for item in reversed(answers)])

    def stop(self) -> None:
        """Cancels all pending rows and waits for the running one, so that no runtime is unloaded during a call."""
        self._pool.shutdown(cancel_futures=True)
