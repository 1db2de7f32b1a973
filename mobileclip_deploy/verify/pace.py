"""How many inputs a slow runtime is asked, which ones, how long that takes, and what is done meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.towers.arithmetic import tower_arithmetic
from mobileclip_deploy.network.model.variants import TowerName, load_variant
from mobileclip_deploy.targets import Runner, Target

Answers = npt.NDArray[np.float32]

# What the quick checks ask of each tower.
QUICK = 2
# A minute is worth being told of.
LEAST_SECONDS = 60


def asked_inputs(target: Target, variant: str, size: int, tower: TowerName, thorough: bool = True) -> int | None:
    """How many inputs the target's runtime is asked for a tower; None for every one.

    Args:
        variant: name of its card, which says how much an inference computes.
        size: of its images, in pixels.
        thorough: False for the quick checks.

    Raises:
        UsageError: no such variant.
    """
    pace = target.abilities.pace
    if pace is None:
        return None
    asked = pace.inputs(_operations(variant, size, tower))
    return asked if thorough else min(asked, QUICK)


def _operations(variant: str, size: int, tower: TowerName) -> int:
    return tower_arithmetic(variant, tower, size if tower == "image" else load_variant(variant).tokens.context_length)


def spread_rows(inputs: npt.NDArray[np.generic], tower: TowerName, count: int) -> npt.NDArray[np.intp]:
    """Numbers of `count` inputs, spread over all of them and ascending: of images in their order, of ids [N, L] in the
    order of how many differ from the last one, so that the shortest and the longest prompt are among them."""
    order = np.arange(len(inputs))
    if count >= len(inputs):
        return order
    if tower == "text":
        order = np.argsort((inputs != inputs[:, -1:]).sum(axis=1), kind="stable")
    places = np.linspace(0, len(inputs) - 1, count).round().astype(np.intp)
    return np.sort(order[places])


def asked_rows(
    target: Target, variant: str, size: int, tower: TowerName, inputs: npt.NDArray[np.generic], thorough: bool = True
) -> npt.NDArray[np.intp]:
    """Numbers of the inputs [N, ...] that the target's runtime is asked for a tower, ascending; all of a fast one's.

    Args:
        variant, size, thorough: see `asked_inputs`.

    Raises:
        UsageError: no such variant.
    """
    asked = asked_inputs(target, variant, size, tower, thorough)
    return spread_rows(inputs, tower, len(inputs) if asked is None else asked)


def told_time(
    target: Target, variant: str, size: int, precisions: Mapping[TowerName, str], thorough: bool = True
) -> str | None:
    """What to say before a slow runtime is asked, in a sentence; None where it takes less than a minute.

    The seconds are operations of an inference, times the inputs, times what 10^9 of them took on one machine: at the
    tower's own precision, and in float32 for the twin, which only the thorough checks have.

    Raises:
        UsageError: no such variant.
    """
    pace, seconds, inputs = target.abilities.pace, 0.0, 0
    if pace is None:
        return None
    for tower, precision in precisions.items():
        asked = asked_inputs(target, variant, size, tower, thorough) or 0
        passes = ["float32" if precision == "fp32" else "float16", *(["float32"] if thorough else [])]
        seconds += asked * _operations(variant, size, tower) / 1e9 * sum(pace.seconds[one] for one in passes)
        inputs += asked
    if seconds < LEAST_SECONDS:
        return None
    fewer = sum(asked_inputs(target, variant, size, tower, thorough=False) or 0 for tower in precisions)
    quick = f"; the quick checks ask {fewer}" if fewer < inputs else ""
    minutes = f"about {max(1, round(seconds / 60))} min of CPU time"
    return f"{target.title}: {minutes} for {inputs} inputs in the vendor's runtime{quick}."


class AskedAhead:
    """Answers of the runners of a bundle's towers, one input after the other, in a thread of its own while other
    bundles are made: one core is enough for it.

    Whoever needs them before they are all there helps, so that then no core waits.

    Args:
        asked: a loaded runner of each tower, which two threads may ask at once, and its inputs [N, ...].
    """

    def __init__(self, asked: Mapping[TowerName, tuple[Runner, npt.NDArray[np.generic]]]) -> None:
        self._pool = ThreadPoolExecutor(1, "asked-ahead")
        self._asked: dict[TowerName, list[tuple[Future[Answers], Runner, npt.NDArray[np.generic]]]] = {}
        for tower, (runner, inputs) in asked.items():
            rows = (inputs[number : number + 1] for number in range(len(inputs)))
            self._asked[tower] = [(self._pool.submit(runner, row), runner, row) for row in rows]

    def answers(self, tower: TowerName) -> Answers | None:
        """What a tower answered, [N, D], when it has; None of one that was not asked, or was given already.

        Raises:
            MobileClipDeployError: what its runner raised.
        """
        asked = self._asked.pop(tower, None)
        if asked is None:
            return None
        # From the end, what the thread has not begun.
        found = [runner(row) if answer.cancel() else answer for answer, runner, row in reversed(asked)]
        return np.concatenate([one.result() if isinstance(one, Future) else one for one in reversed(found)])

    def stop(self) -> None:
        """Ask nothing more, and wait for the answer that is being computed: a runtime is not unloaded beneath it."""
        self._pool.shutdown(cancel_futures=True)
