"""Runs tasks on Dask, which distributes them. Each worker declares the memory for tasks, and runs one task at a time.

Dask gives a task to another worker if its own is lost.
"""

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

from mobileclip_deploy.base.files.staging import temporary_folder
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
"""Names of Dask's resources: each worker has one process, and bytes of memory for a task."""
ANSWERS, APPEARS, CLOSES = 15.0, 60.0, 60.0
"""Time limits in seconds: for a scheduler's response, for a result or a first worker, and for closing."""
LOOKS = 1.0
"""Seconds between polls of the list of workers."""
DEATHS = 3
"""Number of lost processes after which a task counts as failed; an existing cluster has its own limit."""
SHARE = 0.9
"""Share of the free memory that tasks may use."""
# Dask must not pause workers: one near its memory limit would never start its task. The fit is decided before.
NO_PAUSES = {f"distributed.worker.memory.{what}": False for what in ("pause", "spill", "target")}
NO_PAGES: dict[str, list[str]] = {f"distributed.{what}.http.routes": [] for what in ("scheduler", "worker", "nanny")}
"""Settings that turn off Dask's pages about a run, which plain HTTP serves to everybody on the machine."""


def _free_memory() -> int:
    """Returns the bytes of memory for tasks here, within the limits of the system and a container."""
    return int(SHARE * min(psutil.virtual_memory().available, MEMORY_LIMIT))


class Room(WorkerPlugin):
    """Plugin that makes a worker declare its resources for tasks.

    `neighbours`: number of workers that share the machine's free memory, if Dask does not divide it among them.
    """

    name = PACKAGE

    def __init__(self, neighbours: int) -> None:
        self.neighbours, self.version = neighbours, metadata.version(PACKAGE)

    async def setup(self, worker: Worker) -> None:
        """Runs on each worker, including later ones.

        Raises:
            RuntimeFailed: it has another version of this package.
        """
        version = metadata.version(PACKAGE)
        if version != self.version:
            raise RuntimeFailed(
                f"the worker {worker.address} has {PACKAGE} {version}, but this is {self.version}; install the same "
                "version there"
            )
        limit = worker.memory_manager.memory_limit
        free = _free_memory() // self.neighbours
        await worker.set_resources(**{PROCESS: 1, BYTES: free if limit is None else min(free, limit)})


def run_on_dask(tasks: Sequence[Task], told: Told, scheduler: str, go_on: bool, progress: Progress) -> None:
    """Runs tasks as `run_tasks` does, on Dask."""
    with connected(tasks, scheduler) as client:
        room = max((worker["resources"].get(BYTES, 0) for worker in _workers(client, scheduler).values()), default=0)
        largest = max(tasks, key=lambda task: task.memory)
        if largest.memory > room:
            raise UsageError(
                f"{largest.name} needs {in_gigabytes(largest.memory)} of memory, but a process can have "
                f"{in_gigabytes(room)}; free some, or use workers with more"
            )
        waiting, running = deque(tasks), dict[Any, tuple[Task, Any]]()
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        done = failed = 0
        try:
            while running or waiting:
                processes = len(_workers(client, scheduler))
                while waiting and len(running) < max(1, processes):  # waiting tasks use the scheduler's memory
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
            with contextlib.suppress(Exception):  # cancels the rest of a run that ends early; the scheduler may be gone
                client.cancel([future for _, future in running.values()], force=True)


def _result(task: Task, future: Any, client: Client, scheduler: str) -> Any:
    """Returns a task's result, or `Failed`."""
    try:
        result = future.result(timeout=APPEARS)
    except KilledWorker as error:
        reason = (
            f"its process ended {error.allowed_failures + 1} times, killed or crashed; it was expected to need "
            f"{in_gigabytes(task.memory)}; give it more memory"
        )
        return Failed(RuntimeFailed(f"{task.name}: {reason}"))
    except Exception as error:
        _workers(client, scheduler)  # raises if the scheduler is lost, which cancels every task
        return Failed(RuntimeFailed(f"{task.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return result.failed() if isinstance(result, Refusal) else result


def _workers(client: Client, scheduler: str) -> dict[str, Any]:
    """Returns Dask's description of the current workers, by address.

    Raises:
        RuntimeFailed: the scheduler does not respond.
    """
    try:
        if client.status != "running":
            raise OSError("closed")
        workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    except Exception as error:  # OSError, TimeoutError, CommClosedError, ... by the kind of failure
        raise RuntimeFailed(
            f"the connection to the scheduler {scheduler} was lost; repeat the same command, which resumes"
        ) from error
    return workers


@contextlib.contextmanager
def connected(tasks: Sequence[Task], scheduler: str) -> Iterator[Client]:
    """Yields a client whose workers declare their resources.

    Raises:
        UsageError: the scheduler has TLS, and no certificates are configured.
        RuntimeFailed: see `run_tasks`.
    """
    if scheduler.startswith(ENCRYPTED) and Security().get_connection_args("client").get("ssl_context") is None:
        raise UsageError(
            f"the scheduler {scheduler} needs certificates; name them in Dask's configuration (docs/reinforcement.md)"
        )
    settings = {"distributed.comm.timeouts.connect": f"{ANSWERS:.0f}s", **NO_PAUSES}
    settings["distributed.scheduler.allowed-failures"] = DEATHS - 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(settings))
        address, neighbours = stack.enter_context(_local(tasks)) if scheduler == LOCAL else (scheduler, 1)
        try:
            client = stack.enter_context(Client(address, timeout=ANSWERS, set_as_default=False))
        except Exception as error:  # OSError, TimeoutError, gaierror, by the kind of connection
            raise RuntimeFailed(
                f"no Dask scheduler responds at {scheduler}; start one with `dask scheduler`, or give local"
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
        except Exception as error:  # a worker that cannot import `Room` sends an `Exception` of its own
            raise RuntimeFailed(
                f"a worker of {scheduler} cannot take tasks ({' '.join(str(error).split())}); "
                f"install {PACKAGE}[scale] there"
            ) from error
        yield client


@contextlib.contextmanager
def _local(tasks: Sequence[Task]) -> Iterator[tuple[LocalCluster, int]]:
    """Yields a cluster of single-threaded processes on this machine, which end with this one, and their number.

    The number is at most that of cores and tasks, and of largest tasks that fit into the free memory together.
    """
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
            security=Security.temporary(),  # keys in memory: other processes cannot connect without them
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
    """Restores the environment, since Dask sets OMP_NUM_THREADS and others in this process for its workers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Dask's logs: the toolkit reports everything that a user should know."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
