"""Work in independent pieces: one after another in this process, or on Dask, on this machine or on a cluster."""

from collections.abc import Sequence

from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.base.scheduling.tasks import (
    LOCAL,
    Failed,
    Task,
    Told,
    available_cores,
    check_scheduler,
    require_tls,
)
from mobileclip_deploy.errors import MobileClipDeployError

__all__ = [
    "LOCAL",
    "Failed",
    "Task",
    "available_cores",
    "check_scheduler",
    "require_scheduler",
    "require_tls",
    "run_tasks",
]


def require_scheduler(scheduler: str | None) -> None:
    """Refuses a scheduler that cannot be used, before anything is written.

    Raises:
        UsageError, DependencyMissing, RuntimeFailed: see `run_tasks`.
    """
    check_scheduler(scheduler)
    if scheduler is not None and scheduler != LOCAL:
        from mobileclip_deploy.base.scheduling.cluster import connected

        with connected((), scheduler):  # it responds, and its workers can run the tasks
            pass


def run_tasks(
    tasks: Sequence[Task],
    told: Told,
    scheduler: str | None = None,
    *,
    go_on: bool = False,
    progress: Progress = silent,
) -> None:
    """Runs tasks, in any order, and reports each result at once, in the calling thread.

    Args:
        told: called with each ended task and its result, or `Failed`.
        scheduler: None for this process; "local" for processes on this machine, each with one thread, as many as cores
            and free memory allow; or a Dask scheduler's address, whose workers see the same disks under the same names.
        go_on: continue after a failed task; otherwise no other task is started.
        progress: called with the numbers of tasks that are done, failed, running and left.

    Raises:
        UsageError: an unknown scheduler, or a task that needs more memory than there is.
        DependencyMissing: Dask is not installed.
        RuntimeFailed: no scheduler responds at the address, it has no workers, they have another version of this
            package, or it was lost.
    """
    check_scheduler(scheduler)
    if not tasks:
        return
    if scheduler is not None:
        from mobileclip_deploy.base.scheduling.cluster import run_on_dask

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
