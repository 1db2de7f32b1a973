"""Driver of this machine: runs the rounds, and stores their results."""

import importlib.metadata
import importlib.util

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.driver import Driver, Listing, RoundCounter
from mobileclip_deploy.benchmark.host.machine import describe, snapshot
from mobileclip_deploy.benchmark.host.rounds import run_round, side_by_side
from mobileclip_deploy.benchmark.job import CHECKPOINT, Job
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Environment, Harness, Run
from mobileclip_deploy.targets import get_target, targets


class HostDriver(Driver):
    """Driver of this machine."""

    kind = "host"
    devices = "this host"
    only = "host"
    runs_checkpoints = takes_pictures = True

    def discover(self) -> tuple[Listing, ...]:
        device = describe()
        every = [target.capabilities for target in targets().values()]
        timed = {
            item.packages.runtime_package or item.packages.required[0]: item.packages.extra
            for item in every
            if item.formats.foreign_suffix
        }
        missing = {name: extra for name, extra in timed.items() if importlib.util.find_spec(name) is None}
        extras = ",".join(str(extra) for extra in missing.values())
        remedy = f"without {' and '.join(missing)}: pip install 'mobileclip-deploy[{extras}]'" if missing else None
        name = f"{device.model}, {device.cores} cores, {device.os} {device.architecture}"
        return (Listing("host", name, "ready", remedy),)

    def run(self, plan: Plan, progress: Progress) -> Run:
        job = plan.job
        before = plan.environment_before(snapshot)
        counter = RoundCounter(len(job.order), progress)
        while turns := plan.outstanding:
            now = side_by_side(plan, turns)
            more = f" and {len(now) - 1} more, in turns" if len(now) > 1 else ""
            counter.tell(len(job.order) - len(turns), f"{job.cell(now[0].cell).label}{more}")
            for finished in run_round(plan, now):
                plan.keep(finished)
        counter.tell(len(job.order), "done")
        harness = Harness.own("host")
        environment = Environment(before=before, after=snapshot())
        return plan.record(describe(), harness, _versions(job), environment)


def _versions(job: Job) -> dict[str, str]:
    """Returns the versions of the job's runtimes, by the runtime's name."""
    names = {cell.runtime: cell.target or "" for cell in sorted(job.cells, key=lambda cell: cell.runtime)}
    return {
        runtime: importlib.metadata.version("torch")
        if target == CHECKPOINT
        else get_target(target).capabilities.packages.runtime_version()
        for runtime, target in names.items()
    }
