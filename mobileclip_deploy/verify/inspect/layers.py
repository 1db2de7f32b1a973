"""Comparison of a compiled tower with float32, layer by layer, on inputs of its bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import Target, restored_target
from mobileclip_deploy.targets.artifact import LayerNoise

INPUTS = 2


@dataclass(frozen=True)
class LayerComparison:
    """Layers of a tower, in the order of its graph."""

    bundle: str
    tower: TowerName
    layers: tuple[LayerNoise, ...]


def compare_layers(paths: Sequence[Path], progress: Progress = silent) -> tuple[LayerComparison, ...]:
    """Compares the output of each layer of bundles' towers, compiled, with float32.

    Raises:
        UsageError: the target has no compiled place whose layers can be read here.
        InvalidInput, NotRun, RuntimeFailed: a bundle is damaged, or cannot be compiled or run here.
    """
    comparisons, opened = [], list[tuple[Bundle, Target]]()
    for path in paths:  # refuses all bad bundles before the slow part
        bundle = Bundle.open(path)
        target = restored_target(bundle.manifest.target, bundle.manifest.options)
        if "npu" not in target.capabilities.places.compiled:
            raise _untold(bundle, target)
        opened.append((bundle, target))
    for bundle, target in opened:
        inputs = Reference.read(bundle.golden).inputs
        for tower, entry in bundle.manifest.towers.items():
            progress(f"{bundle.path.name}: {tower} tower, layer by layer")
            artifact = target.open(bundle.artifact(tower), entry.function)
            layers = tuple(artifact.layer_noise(inputs.of(tower)[:INPUTS]))
            if not layers:
                raise _untold(bundle, target)
            comparisons.append(LayerComparison(bundle.path.name, tower, layers))
    return tuple(comparisons)


def _untold(bundle: Bundle, target: Target) -> UsageError:
    return UsageError(f"{bundle.path.name}: `by_layer` works on Qualcomm bundles only (`export --target qnn`)")
