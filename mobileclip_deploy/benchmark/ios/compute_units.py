"""Where Core ML runs a model: the sweep over its compute units."""

from __future__ import annotations

from mobileclip_deploy.benchmark.driver import Place, Plan
from mobileclip_deploy.errors import NotRun, UsageError

__all__ = ["check_plan", "core_ml_places"]


def core_ml_places(target: str) -> tuple[Place, ...]:
    """Core ML on every set of compute units.

    Raises:
        NotRun: the target is another runtime's.
    """
    if target != "coreml":
        raise NotRun(f"the harness runs Core ML alone, not {target}; export with --target coreml")
    return (
        Place(runtime="coreml", compute_units="cpuOnly"),
        Place(runtime="coreml", compute_units="cpuAndGPU"),
        Place(runtime="coreml", compute_units="cpuAndNeuralEngine"),
        Place(runtime="coreml", compute_units="all"),
    )


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
