"""Tasks on Dask, which places them: each worker declares the memory that a task may have there, and takes one task at a
time. Dask gives a task to another worker when its own is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import dask
import psutil
from distributed import Client, KilledWorker, LocalCluster, Worker, WorkerPlugin
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.base.interpreter import safe_children
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.base.scheduling.tasks import (
    ENCRYPTED,
    LOCAL,
    Failed,
    Refusal,
    Task,
    Told,
    available_cores,
    in_gigabytes,
    perform,
)
from mobileclip_deploy.errors import RuntimeFailed, UsageError

PACKAGE = "mobileclip-deploy"
PROCESS, BYTES = f"{PACKAGE}-process", f"{PACKAGE}-bytes"
"""Dask's resources: of each worker one process, and the bytes of memory that a task may have."""
ANSWERS, APPEARS, CLOSES = 15.0, 60.0, 60.0
"""Seconds in which a scheduler answers, in which a result or a first worker is there, and that closing may take."""
LOOKS = 1.0
"""Seconds between looks at which workers there are."""
DEATHS = 3
"""So often a task may lose its process before it counts as failed; a cluster that is there has a number of its own."""
SHARE = 0.9
"""Share of the free memory that tasks may have."""
# A process of ours that is near its limit would never begin the task that it was given: what fits is decided before.
NO_PAUSES = {f"distributed.worker.memory.{what}": False for what in ("pause", "spill", "target")}
NO_PAGES: dict[str, list[str]] = {f"distributed.{what}.http.routes": [] for what in ("scheduler", "worker", "nanny")}
"""Dask serves pages about a run by plain HTTP, to everybody on the machine."""


def _free_memory() -> int:
    """What tasks may have here, of what the system, a container or a limit grants: bytes."""
    return int(SHARE * min(psutil.virtual_memory().available, MEMORY_LIMIT))


class Room(WorkerPlugin):
    """Makes a worker declare what it has for tasks. `neighbours`: workers that share the machine's free memory, where
    Dask gives each of them no part of its own."""

    name = PACKAGE

    def __init__(self, neighbours: int) -> None:
        self.neighbours, self.version = neighbours, metadata.version(PACKAGE)

    async def setup(self, worker: Worker) -> None:
        """Run on each worker, those that come later too.

        Raises:
            RuntimeFailed: it has another version of this package.
        """
        own = metadata.version(PACKAGE)
        if own != self.version:
            raise RuntimeFailed(
                f"the worker {worker.address} has {PACKAGE} {own} where this is {self.version}; "
                "install the same version there"
            )
        limit = worker.memory_manager.memory_limit
        free = _free_memory() // self.neighbours
        await worker.set_resources(**{PROCESS: 1, BYTES: free if limit is None else min(free, limit)})


def run_on_dask(tasks: Sequence[Task], told: Told, scheduler: str, go_on: bool, progress: Progress) -> None:
    """See `run_tasks`."""
    with connected(tasks, scheduler) as client:
        room = max((one["resources"].get(BYTES, 0) for one in _workers(client, scheduler).values()), default=0)
        largest = max(tasks, key=lambda task: task.memory)
        if largest.memory > room:
            raise UsageError(
                f"{largest.name} needs {in_gigabytes(largest.memory)} of memory where a process can have "
                f"{in_gigabytes(room)}; free some, or take workers with more"
            )
        waiting, running = deque(tasks), dict[Any, tuple[Task, Any]]()
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        done = failed = 0
        try:
            while running or waiting:
                processes = len(_workers(client, scheduler))
                while waiting and len(running) < max(1, processes):  # tasks that wait there take the scheduler's memory
                    task = waiting.popleft()
                    need = {PROCESS: 1, BYTES: task.memory}
                    future = client.submit(perform, task, key=f"{PACKAGE}-{uuid.uuid4().hex}", resources=need)
                    running[future.key] = task, future
                    future.add_done_callback(ended.put)
                progress(
                    f"{done} of {len(tasks)} done, {failed} failed, {len(running)} running, {len(waiting)} left "
                    f"({processes} processes)"
                )
                with contextlib.suppress(queue.Empty):
                    future = ended.get(timeout=LOOKS)
                    task, _ = running.pop(future.key)
                    result = _result(task, future, client, scheduler)
                    if isinstance(result, Failed):
                        failed += 1
                        if not go_on:
                            waiting.clear()
                    else:
                        done += 1
                    told(task, result)
        finally:
            with contextlib.suppress(Exception):  # what is left of a run that ends early; the scheduler may be gone
                client.cancel([future for _, future in running.values()], force=True)


def _result(task: Task, future: Any, client: Client, scheduler: str) -> Any:
    """What a task gave, or `Failed`."""
    try:
        result = future.result(timeout=APPEARS)
    except KilledWorker as error:
        told = (
            f"its process ended {error.allowed_failures + 1} times, killed or crashed; it was expected to need "
            f"{in_gigabytes(task.memory)}, is there more to be had?"
        )
        return Failed(RuntimeFailed(f"{task.name}: {told}"))
    except Exception as error:
        _workers(client, scheduler)  # of a scheduler that is lost every task is cancelled
        return Failed(RuntimeFailed(f"{task.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return result.failed() if isinstance(result, Refusal) else result


def _workers(client: Client, scheduler: str) -> dict[str, Any]:
    """What Dask knows of the workers that there are now, by address.

    Raises:
        RuntimeFailed: the scheduler does not answer.
    """
    try:
        if client.status != "running":
            raise OSError("closed")
        found: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    except Exception as error:  # OSError, TimeoutError, CommClosedError, ... as the connection ends
        raise RuntimeFailed(
            f"the scheduler {scheduler} was lost; what is done is kept, and the same command goes on with it"
        ) from error
    return found


@contextlib.contextmanager
def connected(tasks: Sequence[Task], scheduler: str) -> Iterator[Client]:
    """A client whose workers declare their room.

    Raises:
        UsageError: the scheduler has TLS, and no certificates are named.
        RuntimeFailed: see `run_tasks`.
    """
    if scheduler.startswith(ENCRYPTED) and Security().get_connection_args("client").get("ssl_context") is None:
        raise UsageError(
            f"the scheduler {scheduler} needs certificates; name them in Dask's configuration (docs/reinforcement.md)"
        )
    chosen = {"distributed.comm.timeouts.connect": f"{ANSWERS:.0f}s", **NO_PAUSES}
    chosen["distributed.scheduler.allowed-failures"] = DEATHS - 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(chosen))
        where, neighbours = stack.enter_context(_local(tasks)) if scheduler == LOCAL else (scheduler, 1)
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
        try:
            client.register_plugin(Room(neighbours))
        except RuntimeFailed:
            raise
        except Exception as error:  # a worker that cannot import `Room` answers with an `Exception` of its own
            raise RuntimeFailed(
                f"a worker of {scheduler} cannot take tasks ({' '.join(str(error).split())}); "
                f"install {PACKAGE}[scale] there"
            ) from error
        yield client


@contextlib.contextmanager
def _local(tasks: Sequence[Task]) -> Iterator[tuple[LocalCluster, int]]:
    """Processes of one thread on this machine, that end with this one, and how many: at most as many as cores and
    tasks, and as the largest task fits beside each other in the memory that is free."""
    memory = _free_memory()
    largest = max(1, *(task.memory for task in tasks))
    count = max(1, min(available_cores(), len(tasks), memory // largest))
    with _kept_environment(), safe_children(), dask.config.set(NO_PAGES), temporary_folder() as scratch:
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            memory_limit=memory,
            dashboard_address=None,
            security=Security.temporary(),  # keys in memory: without them no other process gets an answer
            local_directory=str(scratch),
            silence_logs=logging.CRITICAL,
        )
        try:
            yield cluster, count
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
