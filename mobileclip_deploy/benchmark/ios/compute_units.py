"""Where Core ML runs a model: the sweep over its compute units."""

from __future__ import annotations

from mobileclip_deploy.benchmark.driver import Place
from mobileclip_deploy.errors import NotRun

__all__ = ["core_ml_places"]


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
