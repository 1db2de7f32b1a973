"""Work in independent pieces: one after another in this process, or on Dask, on this machine or on a cluster."""

from mobileclip_deploy.scheduling.running import LOCAL, check_scheduler, require_scheduler, run_tasks
from mobileclip_deploy.scheduling.tasks import Failed, Task, Told, in_gigabytes

__all__ = ["LOCAL", "Failed", "Task", "Told", "check_scheduler", "in_gigabytes", "require_scheduler", "run_tasks"]
