"""What a plan for Core ML may ask."""

from __future__ import annotations

from mobileclip_deploy.benchmark.driver import Plan
from mobileclip_deploy.errors import UsageError

__all__ = ["check_plan"]


def check_plan(plan: Plan) -> None:
    """Refuse what Core ML has no way to do.

    Raises:
        UsageError: threads, or operator times.
    """
    if any(cell.threads != 1 for cell in plan.job.cells):
        raise UsageError("Core ML chooses its threads itself; leave --threads out")
    if plan.profile:
        raise UsageError(
            "Core ML tells no operator times; leave --profile out (the planned placement is in every result)"
        )
