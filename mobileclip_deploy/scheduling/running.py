"""Running tasks: here, one after another, or by Dask on as many processes as their memory allows."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence

from mobileclip_deploy.errors import DependencyMissing, MobileClipDeployError, UsageError
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.scheduling.tasks import LOCAL, Failed, Task, Told

ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:\d+/?")


def check_scheduler(scheduler: str | None) -> None:
    """Whether it is one, and Dask is here.

    Raises:
        UsageError: neither "local" nor an address.
        DependencyMissing: Dask is not installed.
    """
    if scheduler is None:
        return
    if scheduler != LOCAL and ADDRESS.fullmatch(scheduler) is None:
        raise UsageError(
            f"`scheduler` {scheduler!r} is no scheduler; give local, or the address of Dask's, "
            "such as tcp://10.0.0.1:8786"
        )
    if importlib.util.find_spec("distributed") is None:
        raise DependencyMissing(
            "`scheduler` needs Dask, which is not installed; type: pip install 'mobileclip-deploy[scale]'"
        )


def require_scheduler(scheduler: str | None) -> None:
    """Refuse a scheduler that could not be used, before anything is written.

    Raises:
        UsageError, DependencyMissing, RuntimeFailed: see `run_tasks`.
    """
    check_scheduler(scheduler)
    if scheduler is not None and scheduler != LOCAL:
        from mobileclip_deploy.scheduling.cluster import reach

        reach(scheduler)


def run_tasks(
    tasks: Sequence[Task],
    told: Told,
    scheduler: str | None = None,
    *,
    go_on: bool = False,
    progress: Progress = silent,
) -> None:
    """Run tasks, in any order, and tell how each ended as soon as it did, in the thread that called.

    Args:
        scheduler: None for this process; "local" for processes on this machine, each of one thread, as many as cores
            and the memory that is free allow; or a Dask scheduler's address, whose workers see the same disks under
            the same names.
        go_on: after a task that failed; else no other is begun.
        progress: told how many are done, have failed, run and are left.

    Raises:
        UsageError: an unknown scheduler, or a task that needs more memory than there is.
        DependencyMissing: Dask is not installed.
        RuntimeFailed: no scheduler answers at the address, it has no workers, they have another version of this
            package, or it was lost.
    """
    check_scheduler(scheduler)
    if not tasks:
        return
    if scheduler is not None:
        from mobileclip_deploy.scheduling.cluster import run_on_dask

        run_on_dask(tasks, told, scheduler, go_on, progress)
        return
    for task in tasks:
        progress(task.name)
        try:
            result = task.call(*task.arguments)
        except MobileClipDeployError as error:
            told(task, Failed(error))
            if not go_on:
                return
            continue
        told(task, result)
