"""Rounds on this machine. Cells of a round are loaded at once, each in its own process, and sampled in turn.

A shared machine can be slower by half and more for seconds or minutes. Rounds in sequence then meet different speeds.
Interleaved samples of a tenth of a second each meet the same speed.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from mobileclip_deploy.base.files.staging import temporary_folder
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
"""Memory of a process: bytes of its libraries, and copies of its file while it is loaded and compiled."""


def side_by_side(plan: Plan, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Returns the first of `turns`, and following turns of its round that fit into half of the memory too.

    A paced turn is returned alone, since nothing may run between its inferences.
    """
    if plan.job.protocol.pace_milliseconds:
        return tuple(turns[:1])
    left = memory_bytes() // 2
    fitting: list[Turn] = []
    for turn in turns:
        left -= PROCESS_BYTES + COPIES * plan.job.cell(turn.cell).bytes
        if fitting and (left < 0 or turn.round != turns[0].round):
            break
        fitting.append(turn)
    return tuple(fitting)


def run_round(plan: Plan, turns: Sequence[Turn]) -> Iterator[RoundResult]:
    """Runs one round of each of these cells, and yields the results in the order of `turns`."""
    protocol = plan.job.protocol
    with ExitStack() as stack:
        # Processes load in sequence.
        processes = [stack.enter_context(_Process(plan, turn, alone=len(turns) == 1)) for turn in turns]
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
    """Process of one cell, running worker.py. It reports that it waits, takes a sample on request, ends with its round.

    `alone`: True if the process takes its samples without requests.
    """

    def __init__(self, plan: Plan, turn: Turn, alone: bool) -> None:
        self.cell, self.waits = plan.job.cell(turn.cell), False
        self._plan, self._turn = plan, turn
        self._line, self._late = "", False
        self._patience = PATIENCE_SECONDS + 2 * plan.job.protocol.least_seconds
        self._options = [*(["--profile"] if plan.profile else []), *([] if alone else ["--in-turns"])]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            self._complaints = folder / "stderr.txt"
            words = [*WORKER, str(self._plan.folder), self.cell.id, str(self._turn.round)]
            command, environment = python(*words, *self._options, variables=pools(self.cell.threads))
            self._running = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(self._complaints.open("wb")),
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            stack.callback(self._running.communicate)
            stack.callback(self._running.kill)  # runs first: callbacks run in reverse order
            self._listen()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def say(self, word: str) -> None:
        """Sends a line to the process, and waits for its answer."""
        assert self._running.stdin
        with suppress(BrokenPipeError):  # it died: `_listen` reads no answer
            self._running.stdin.write(f"{word}\n")
            self._running.stdin.flush()
        self._listen()

    def finish(self) -> RoundResult:
        """Ends the process, and returns its round, which is failed if the process died or was silent for too long."""
        if self.waits:
            self.say("end")
        with self._patiently():
            self._running.communicate()  # closes stdin: a process that still waits ends too
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
        """Reads the next line of the process: `waits`, or its round. Empty if it died, or was silent for too long."""
        assert self._running.stdout
        with self._patiently():
            self._line = self._running.stdout.readline()
        self.waits = self._line == WAITING

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        """Kills the process if the block takes longer than `self._patience` seconds."""
        ending = threading.Timer(self._patience, self._give_up)
        ending.start()
        try:
            yield
        finally:  # after an interrupt too, since this process would not end before the timer
            ending.cancel()

    def _give_up(self) -> None:
        self._late = True
        self._running.kill()


def pools(threads: int) -> dict[str, str]:
    """Returns environment variables that set the size of all thread pools and disable spinning."""
    sizes = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return sizes | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def death(code: int, complaints: str) -> str:
    """Returns the reason why a process ended without an answer, in one line.

    Args:
        code: exit code as in `subprocess`; negative for a signal.
        complaints: its output on stderr.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = complaints.strip().splitlines() or ["nothing was printed"]
    return f"the process ended with code {code}: {lines[-1][:300]}"
