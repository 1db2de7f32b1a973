"""Tasks on Dask: given to one worker after another as their memory allows, and given anew when a worker is lost.

Dask would place tasks by itself, by resources that each worker declares. Workers of one machine share its memory, which
no such resource can say, and workers of a cluster that is there already declare none. So the placing is done here: a
task is given to a worker that is idle, on a machine that has the memory for it beside what runs there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from mobileclip_deploy.errors import MobileClipDeployError, RuntimeFailed, UsageError
from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.interpreter import safe_children
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.scheduling.tasks import (
    LOCAL,
    Failed,
    Refusal,
    Task,
    Told,
    available_cores,
    in_gigabytes,
    perform,
)

__all__ = ["reach", "run_on_dask"]

PACKAGE = "mobileclip-deploy"
ANSWERS, APPEARS, CLOSES = 15.0, 60.0, 60.0
"""Seconds in which a scheduler answers, in which a result or a first worker is there, and that closing may take."""
LOOKS = 1.0
"""Seconds between looks at which workers there are."""
DEATHS = 3
"""So often a task may lose its process before it counts as failed."""
SHARE = 0.9
"""Share of the free memory that tasks may have."""
# A process of ours that is near its limit would never begin the task that it was given: what fits is decided before.
NO_PAUSES = {f"distributed.worker.memory.{what}": False for what in ("pause", "spill", "target")}


@dataclass(frozen=True)
class Probe:
    """What a worker says of itself: its machine, this package's version, and the bytes of memory that are free."""

    machine: str
    version: str
    free: int


def probe() -> Probe:
    """Asked on workers."""
    return Probe(_machine(), metadata.version(PACKAGE), _free_memory())


def _machine() -> str:
    """Containers of one host have names and limits of their own, and count as machines."""
    return socket.gethostname()


def _free_memory() -> int:
    """What is free here, of what the system, a container or a limit grants: bytes."""
    import psutil
    from distributed.system import MEMORY_LIMIT

    return min(int(psutil.virtual_memory().available), int(MEMORY_LIMIT))


@dataclass(frozen=True)
class Worker:
    """One process that takes a task at a time. `limit`: bytes that Dask allows it; None without a bound."""

    address: str
    machine: str
    limit: int | None


@dataclass
class Given:
    """A task that a worker has."""

    task: Task
    worker: Worker
    future: Any


@dataclass
class Placing:
    """Which worker may have which task: workers, and bytes free on each machine when it was first seen."""

    memory: dict[str, int] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    """Workers that begin nothing at the moment, because their process is near its limit of memory."""

    def fits(self, task: Task, running: Sequence[Given]) -> Worker | None:
        """An idle worker whose machine has the memory for the task, if there is one."""
        busy = {one.worker.address for one in running} | self.paused
        for worker in self.workers.values():
            taken = sum(one.task.memory for one in running if one.worker.machine == worker.machine)
            if worker.address not in busy and task.memory <= min(
                self.memory[worker.machine] - taken, self._limit(worker)
            ):
                return worker
        return None

    def largest(self) -> int:
        """Bytes that a task can have at most."""
        return max(
            (min(self.memory[worker.machine], self._limit(worker)) for worker in self.workers.values()), default=0
        )

    def _limit(self, worker: Worker) -> int:
        return self.memory[worker.machine] if worker.limit is None else worker.limit


def run_on_dask(tasks: Sequence[Task], told: Told, scheduler: str, go_on: bool, progress: Progress) -> None:
    """See `run_tasks`."""
    with _quiet(), _client(tasks, scheduler) as client:
        _Run(client, scheduler, progress).run(tasks, told, go_on)


def reach(scheduler: str) -> None:
    """Whether a scheduler answers, and its workers can do what they will be asked.

    Raises:
        RuntimeFailed: see `run_tasks`.
    """
    with _quiet(), _client((), scheduler) as client:
        _Run(client, scheduler, silent).look()


class _Run:
    """Tasks on the workers of one client."""

    def __init__(self, client: Any, scheduler: str, progress: Progress) -> None:
        self.client, self.scheduler, self.progress = client, scheduler, progress
        self.placing = Placing()
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.running: dict[str, Given] = {}
        self.waiting: deque[Task] = deque()
        self.deaths: dict[str, int] = {}

    def run(self, tasks: Sequence[Task], told: Told, go_on: bool) -> None:
        self.waiting.extend(tasks)
        done = failed = 0
        stopped = False
        self.look()
        largest = max(tasks, key=lambda task: task.memory)
        if largest.memory > self.placing.largest():
            raise UsageError(
                f"{largest.name} needs {in_gigabytes(largest.memory)} of memory where a process can have "
                f"{in_gigabytes(self.placing.largest())}; free some, or take workers with more"
            )
        try:
            while self.running or (self.waiting and not stopped):
                if not stopped:
                    self._give()
                left = 0 if stopped else len(self.waiting)
                self.progress(
                    f"{done} of {len(tasks)} done, {failed} failed, {len(self.running)} running, {left} left "
                    f"({len(self.placing.workers)} processes)"
                )
                for task, result in self._ends():
                    if isinstance(result, Failed):
                        failed += 1
                        stopped = stopped or not go_on
                    else:
                        done += 1
                    told(task, result)
        finally:
            with contextlib.suppress(Exception):  # what is left of a run that ends early; the scheduler may be gone
                self.client.cancel([one.future for one in self.running.values()], force=True)

    def _give(self) -> None:
        """Every task that fits somewhere now; a large one that does not is overtaken."""
        for _ in range(len(self.waiting)):
            task = self.waiting.popleft()
            worker = self.placing.fits(task, list(self.running.values()))
            if worker is None:
                self.waiting.append(task)
                if len(self.running) >= len(self.placing.workers):
                    # Nobody is idle: the rest keeps its order.
                    self.waiting.rotate(1)
                    return
                continue
            key = f"{PACKAGE}-{uuid.uuid4().hex}"
            future = self.client.submit(
                perform, task, key=key, pure=False, workers=[worker.address], allow_other_workers=False, retries=0
            )
            self.running[key] = Given(task, worker, future)
            future.add_done_callback(lambda one: self.ended.put(one.key))

    def _ends(self) -> Iterator[tuple[Task, Any]]:
        """Those tasks that have ended since, waiting for one for a while; those whose worker is lost wait again."""
        keys = []
        with contextlib.suppress(queue.Empty):
            keys.append(self.ended.get(timeout=LOOKS))
            while True:
                keys.append(self.ended.get_nowait())
        for key in keys:
            given = self.running.get(key)
            if given is None:
                continue
            try:
                result = given.future.result(timeout=APPEARS)
            except Exception:  # cancelled, or its worker went before it could hand the result over
                self.look()
                yield from self._lost(key)
                continue
            del self.running[key]
            yield given.task, result.failed() if isinstance(result, Refusal) else result
        self.look()
        for key in [key for key, one in self.running.items() if one.worker.address not in self.placing.workers]:
            yield from self._lost(key)

    def _lost(self, key: str) -> Iterator[tuple[Task, Failed]]:
        """The worker that had a task is no more: the task waits again, or has failed if that was once too often."""
        given = self.running.pop(key)
        with contextlib.suppress(Exception):
            given.future.cancel(force=True)
        task = given.task
        self.deaths[task.name] = self.deaths.get(task.name, 0) + 1
        if self.deaths[task.name] < DEATHS:
            self.waiting.appendleft(task)
            return
        yield (
            task,
            Failed(
                RuntimeFailed(
                    f"{task.name}: its process ended {DEATHS} times, killed or crashed; it was expected to need "
                    f"{in_gigabytes(task.memory)}, is there more to be had?"
                )
            ),
        )

    def look(self) -> None:
        """Which workers there are now.

        Raises:
            RuntimeFailed: the scheduler does not answer.
        """
        try:
            if self.client.status != "running":
                raise OSError("closed")
            known = self.client.scheduler_info(n_workers=-1)["workers"]
        except MobileClipDeployError:
            raise
        except Exception as error:  # OSError, TimeoutError, CommClosedError, ... as the connection ends
            raise RuntimeFailed(
                f"the scheduler {self.scheduler} was lost; what is done is kept, and the same command goes on with it"
            ) from error
        self.placing.paused = frozenset(name for name, found in known.items() if found.get("status") == "paused")
        workers = self.placing.workers
        new = [address for address in known if address not in workers]
        for address in [address for address in workers if address not in known]:
            del workers[address]
        for address, found in self._ask(new).items():
            self.placing.memory.setdefault(found.machine, int(found.free * SHARE))
            limit = known[address].get("memory_limit")
            workers[address] = Worker(address, found.machine, int(limit) if limit else None)

    def _ask(self, addresses: Sequence[str]) -> dict[str, Probe]:
        if not addresses:
            return {}
        try:
            answers = self.client.run(probe, workers=list(addresses), on_error="return")
        except Exception:  # gone again already: the next look tells
            return {}
        found = {}
        for address, answer in answers.items():
            if isinstance(answer, Probe):
                ours = metadata.version(PACKAGE)
                if answer.version != ours:
                    raise RuntimeFailed(
                        f"the worker {address} has {PACKAGE} {answer.version} where this is {ours}; "
                        "install the same version there"
                    )
                found[address] = answer
            elif isinstance(answer, ImportError):
                raise RuntimeFailed(
                    f"the worker {address} cannot import this package ({' '.join(str(answer).split())}); "
                    f"install {PACKAGE}[scale] there"
                )
        return found


@contextlib.contextmanager
def _client(tasks: Sequence[Task], scheduler: str) -> Iterator[Any]:
    import dask
    from distributed import Client

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": f"{ANSWERS:.0f}s", **NO_PAUSES}))
        where: Any = stack.enter_context(_local(tasks)) if scheduler == LOCAL else scheduler
        try:
            client = stack.enter_context(Client(where, timeout=ANSWERS, set_as_default=False))
        except Exception as error:  # OSError, TimeoutError, gaierror, of whichever kind of connection
            raise RuntimeFailed(
                f"no Dask scheduler answers at {scheduler}; start one with `dask scheduler`, or give local"
            ) from error
        try:
            client.wait_for_workers(1, timeout=APPEARS)
        except Exception as error:
            raise RuntimeFailed(
                f"the scheduler {scheduler} has no workers; start some with `dask worker {scheduler}`"
            ) from error
        yield client


@contextlib.contextmanager
def _local(tasks: Sequence[Task]) -> Iterator[Any]:
    """Processes of one thread on this machine, that end with this one: at most as many as cores and tasks, and as fit
    beside each other in the memory that is free."""
    from distributed import LocalCluster

    memory = int(_free_memory() * SHARE)
    smallest = max(min(task.memory for task in tasks), 1)
    count = max(1, min(available_cores(), len(tasks), memory // smallest))
    with _kept_environment(), safe_children(), temporary_folder() as scratch:
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            memory_limit=memory,
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch),
            silence_logs=logging.CRITICAL,
        )
        try:
            yield cluster
        finally:
            with contextlib.suppress(TimeoutError):  # they end with this process at the latest
                cluster.close(timeout=CLOSES)


@contextlib.contextmanager
def _kept_environment() -> Iterator[None]:
    """Dask sets OMP_NUM_THREADS and others for its processes in this one, and leaves them there."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's own chatter: what a user should know is said here."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
