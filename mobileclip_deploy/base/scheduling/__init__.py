"""Work in independent pieces: one after another in this process, or on Dask, on this machine or on a cluster."""

from mobileclip_deploy.base.scheduling.running import require_scheduler, run_tasks
from mobileclip_deploy.base.scheduling.tasks import (
    LOCAL,
    Failed,
    Task,
    available_cores,
    check_scheduler,
    require_tls,
)

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
