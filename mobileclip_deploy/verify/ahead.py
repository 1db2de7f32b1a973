"""A slow runtime, asked in a thread of its own while other bundles are made."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import Runner

Answers = npt.NDArray[np.float32]


class AskedAhead:
    """Answers of the runners of a bundle's towers, one input after the other: one core is enough for it.

    Whoever needs them before they are all there helps, so that then no core waits.

    Args:
        asked: a loaded runner of each tower, which two threads may ask at once, and its inputs [N, ...].
    """

    def __init__(self, asked: Mapping[TowerName, tuple[Runner, npt.NDArray[np.generic]]]) -> None:
        self._answers: dict[TowerName, list[Future[Answers]]] = {tower: [] for tower in asked}
        self._left: deque[tuple[Runner, npt.NDArray[np.generic], Future[Answers]]] = deque()
        for tower, (runner, inputs) in asked.items():
            for number in range(len(inputs)):
                answer: Future[Answers] = Future()
                self._answers[tower].append(answer)
                self._left.append((runner, inputs[number : number + 1], answer))
        self._thread = threading.Thread(target=self._work, name="asked-ahead", daemon=True)
        self._thread.start()

    def answers(self, tower: TowerName) -> Answers | None:
        """What a tower answered, [N, D], when it has; None of one that was not asked, or was given already.

        Raises:
            MobileClipDeployError: what its runner raised.
        """
        asked = self._answers.pop(tower, None)
        if asked is None:
            return None
        while not all(answer.done() for answer in asked) and self._ask_next():
            pass
        return np.concatenate([answer.result() for answer in asked])

    def stop(self) -> None:
        """Ask nothing more, and wait for the answer that is being computed: a runtime is not unloaded beneath it."""
        self._left.clear()
        self._thread.join()

    def _work(self) -> None:
        while self._ask_next():
            pass

    def _ask_next(self) -> bool:
        """Whether there was an input left to ask."""
        try:
            runner, row, answer = self._left.popleft()
        except IndexError:
            return False
        try:
            answer.set_result(runner(row))
        except Exception as error:  # it is raised where the answer is asked for
            answer.set_exception(error)
        return True
