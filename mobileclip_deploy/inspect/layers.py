"""Where a compiled tower parts from its own numbers, layer by layer, on inputs that its bundle holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import restored_target
from mobileclip_deploy.targets.artifact import LayerNoise

INPUTS = 2


@dataclass(frozen=True)
class LayerComparison:
    """The layers of a tower, in the order of its graph."""

    bundle: str
    tower: TowerName
    layers: tuple[LayerNoise, ...]


def compare_layers(path: Path, progress: Progress = silent) -> tuple[LayerComparison, ...]:
    """Compare what is behind each layer of a bundle's towers where they are compiled for with float32.

    Raises:
        UsageError: its target is compiled for no place of which layers can be asked here.
        InvalidInput, NotRun, RuntimeFailed: it is damaged, or cannot be compiled or run here.
    """
    bundle = Bundle.open(path)
    target = restored_target(bundle.manifest.target, bundle.manifest.options)
    inputs = Reference.read(bundle.golden).inputs
    found = []
    for tower, entry in bundle.manifest.towers.items():
        progress(f"{path.name}: {tower} tower, layer by layer")
        artifact = target.open(bundle.artifact(tower), entry.function)
        layers = tuple(artifact.layer_noise(inputs.of(tower)[:INPUTS]))
        if not layers:
            raise UsageError(f"{target.title} does not tell of layers; those of qnn's bundles are compared")
        found.append(LayerComparison(bundle.path.name, tower, layers))
    return tuple(found)
