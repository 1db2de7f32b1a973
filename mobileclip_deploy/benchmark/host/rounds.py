"""A round on this machine: the cells of it are loaded side by side, each in a process of its own, and take turns.

A shared machine is slower for seconds or minutes by half and more. Rounds that follow one another meet different
machines then; samples that are taken one after another, a tenth of a second each, meet the same.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.base.interpreter import python
from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.host.machine import memory_bytes
from mobileclip_deploy.benchmark.host.worker import WAITING
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import RoundResult

# Loading and compiling a large tower takes minutes on a slow machine; an inference never does.
PATIENCE_SECONDS = 900
WORKER = ("-m", "mobileclip_deploy.benchmark.host.worker")
PROCESS_BYTES, COPIES = 256 << 20, 4
"""What a process takes: its libraries, and its file so many times while it is loaded and compiled."""


def side_by_side(plan: Plan, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The first of `turns`, and those behind it of the same round that half of the memory has room for as well. A paced
    round has the machine for itself: between inferences nothing runs."""
    if plan.job.protocol.pace_milliseconds:
        return tuple(turns[:1])
    left = memory_bytes() // 2
    found: list[Turn] = []
    for turn in turns:
        left -= PROCESS_BYTES + COPIES * plan.job.cell(turn.cell).bytes
        if found and (left < 0 or turn.round != turns[0].round):
            break
        found.append(turn)
    return tuple(found)


def run_round(plan: Plan, turns: Sequence[Turn]) -> Iterator[RoundResult]:
    """One round of each of these cells, as they came."""
    protocol = plan.job.protocol
    with ExitStack() as held:
        # One loads after the other.
        processes = [held.enter_context(_Process(plan, turn, alone=len(turns) == 1)) for turn in turns]
        chance = random.Random(f"{plan.job.seed}, round {turns[0].round}")
        started, samples = time.monotonic(), 0
        while waiting := [process for process in processes if process.waits]:
            enough = time.monotonic() - started >= protocol.seconds_per_round * len(turns)
            if enough and samples >= protocol.iterations_per_round:
                break
            chance.shuffle(waiting)
            for process in waiting:
                process.say("sample")
            samples += 1
        for process in processes:
            yield process.finish()


class _Process:
    """One cell in a process of its own, worker.py, which says that it waits, takes a sample when it is told to, and
    ends with its round. `alone`: it takes its samples without being told."""

    def __init__(self, plan: Plan, turn: Turn, alone: bool) -> None:
        self.cell, self.waits = plan.job.cell(turn.cell), False
        self._plan, self._turn = plan, turn
        self._line, self._late = "", False
        self._patience = PATIENCE_SECONDS + 2 * plan.job.protocol.least_seconds
        self._options = [*(["--profile"] if plan.profile else []), *([] if alone else ["--in-turns"])]

    def __enter__(self) -> Self:
        with ExitStack() as held:
            folder = held.enter_context(temporary_folder())
            self._complaints = folder / "stderr.txt"
            words = [*WORKER, str(self._plan.folder), self.cell.id, str(self._turn.round)]
            command, environment = python(*words, *self._options, variables=pools(self.cell.threads))
            self._running = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=held.enter_context(self._complaints.open("wb")),
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            held.callback(self._running.communicate)
            held.callback(self._running.kill)  # before that
            self._listen()
            self._held = held.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def say(self, word: str) -> None:
        """Tell it something, and wait for what it says to that."""
        assert self._running.stdin
        with suppress(BrokenPipeError):  # it died: its silence tells
            self._running.stdin.write(f"{word}\n")
            self._running.stdin.flush()
        self._listen()

    def finish(self) -> RoundResult:
        """Its round."""
        if self.waits:
            self.say("end")
        with self._patiently():
            self._running.communicate()  # stdin is closed: one that still waits ends too
        code, run_id = self._running.returncode, self._plan.job.run_id
        if self._late:
            why = f"no answer within {self._patience:.0f} s; the process was ended"
            return RoundResult.failed(run_id, self._turn, why)
        if code or not self._line:
            return RoundResult.failed(
                run_id, self._turn, death(code, self._complaints.read_text(encoding="utf-8", errors="replace"))
            )
        return parse_document(self._line, RoundResult, f"the process of cell {self.cell.id}")

    def _listen(self) -> None:
        """Its next line: that it waits, or its round; nothing where it died, or was silent for too long."""
        assert self._running.stdout
        with self._patiently():
            self._line = self._running.stdout.readline()
        self.waits = self._line == WAITING

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        """What waits for the process waits so long; then the process is ended."""
        ending = threading.Timer(self._patience, self._give_up)
        ending.start()
        try:
            yield
        finally:  # interrupted too: this process would not end before the patience does
            ending.cancel()

    def _give_up(self) -> None:
        self._late = True
        self._running.kill()


def pools(threads: int) -> dict[str, str]:
    """Every pool of the size asked for, and none that spins while it waits: variables of a process."""
    sizes = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return sizes | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def death(code: int, complaints: str) -> str:
    """Why a process ended without an answer, in one line.

    Args:
        code: as `subprocess` tells it: negative of a signal.
        complaints: what it printed on stderr.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = complaints.strip().splitlines() or ["nothing was printed"]
    return f"the process ended with code {code}: {lines[-1][:300]}"
