"""Learned rounding of towers: each layer's weight on its grid so that its outputs stay, kept where that holds on inputs
that were not learned from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.learning.rounding.calibration_set import CalibrationSet
from mobileclip_deploy.learning.rounding.columns import round_columns
from mobileclip_deploy.learning.rounding.lattice import lattice_of
from mobileclip_deploy.learning.rounding.nearest import to_nearest
from mobileclip_deploy.learning.rounding.statistics import Moments, gather
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import compare
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import Target, targets
from mobileclip_deploy.targets.storage import Grid, Storage
from mobileclip_deploy.towers import make_tower
from mobileclip_deploy.towers.layer_scales import absorb_layer_scales

__all__ = ["METHODS", "Rounded", "RoundedTower", "check_rounding", "round_source"]

METHODS = ("nearest", "gptq")
"""How weights get onto their grids; the first learns nothing."""

LEARNABLE = ("w8", "w8a8", "w6p", "w4p", "w4")
# Inputs at a time.
BATCH = 32
SEED = 0
Layers = Mapping[str, nn.Conv2d | nn.Linear]


@dataclass(frozen=True)
class RoundedTower:
    """One tower: which of its layers stand on numbers that were learned, of how many; and how near it is to its float
    original on the inputs held back, centred SNR in dB, without learning and with it.

    `layers` is empty where the tower as a whole was not nearer, and stays as it was.
    """

    tower: TowerName
    layers: tuple[str, ...]
    of: int
    nearest_db: float
    learned_db: float

    def describe(self) -> str:
        """In a sentence."""
        figures = f"{self.learned_db:.1f} dB on the inputs held back, {self.nearest_db:.1f} rounded to the nearest"
        if not self.layers:
            return f"{self.tower} tower: rounded to the nearest, learning did not help ({figures})"
        return f"{self.tower} tower: {len(self.layers)} of {self.of} layers learned; {figures}"


@dataclass(frozen=True)
class Rounded:
    """A folded source whose towers stand on the grids of a target's precisions, and how that came out."""

    source: Source
    towers: tuple[RoundedTower, ...]


def check_rounding(target: Target, precisions: Mapping[TowerName, str]) -> None:
    """Refuse a target whose exporter does not find the learned integers again, and precisions without any.

    Raises:
        UsageError: see there.
    """
    known = [name for name, one in targets().items() if one.recoverable]
    if target.label not in known:
        raise UsageError(f"{target.label} takes no learned rounding ({', '.join(known)} do); leave `rounding` out")
    if not set(precisions.values()) & set(LEARNABLE):
        names = " and ".join(dict.fromkeys(precisions.values()))
        raise UsageError(f"{names}: rounding is learned for {', '.join(LEARNABLE)}; leave `rounding` out")


def round_source(
    source: Source,
    target: Target,
    precisions: Mapping[TowerName, str],
    data: CalibrationSet,
    four_bit: Mapping[TowerName, frozenset[str]],
    progress: Progress = silent,
) -> Rounded:
    """Learn the rounding of every tower that has a grid to be rounded to.

    Args:
        source: folded; it stays as it is.
        four_bit: of precision "mixed", see `TowerJob`.

    Raises:
        InvalidInput: gradients are not numbers.
    """
    result = Source(copy.deepcopy(source.model), source.provenance)
    outcomes = []
    for tower, precision in precisions.items():
        if target.absorbs_layer_scales:
            absorb_layer_scales(getattr(result.model, tower))
        module = make_tower(result.model, tower)
        storage = target.storage(tower, module, precision, four_bit.get(tower, frozenset()))
        layers = _layers(module, storage)
        outcome = _round_tower(tower, module, layers, storage, data, progress) if layers else None
        if outcome is None or not outcome.layers:  # as it was, its layer scales too
            setattr(result.model, tower, copy.deepcopy(getattr(source.model, tower)))
        if outcome is not None:
            outcomes.append(outcome)
    return Rounded(result, tuple(outcomes))


def _layers(module: nn.Module, storage: Storage) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers whose rounding can be learned, by name. The table of words stays to be rounded by the exporter: what a
    row is off by can be taken up by no other."""
    layers = {f"{name}.weight": layer for name, layer in module.named_modules()}
    return {
        name.removesuffix(".weight"): layer
        for name, grid in storage.items()
        if grid.kind != "float" and not grid.pruned and isinstance(layer := layers.get(name), nn.Conv2d | nn.Linear)
    }


def _round_tower(
    tower: TowerName, module: nn.Module, layers: Layers, storage: Storage, data: CalibrationSet, progress: Progress
) -> RoundedTower:
    """Put a tower's layers on their grids, in place."""
    held = data.held_back(tower)
    wanted = _embed(module, held)
    nearest = _with_nearest(module, storage)
    nearest_db = _decibels(wanted, _embed(nearest, held))
    module.requires_grad_(False)
    learned_from = gather(module, layers, data.learned(tower).split(BATCH), SEED, progress)
    judged_by = gather(module, layers, held.split(BATCH), SEED + 1)
    kept = []
    for number, (name, layer) in enumerate(layers.items(), 1):
        progress(f"{tower} tower, rounding, layer {number} of {len(layers)}")
        plain = nearest.get_submodule(name).weight
        assert isinstance(plain, Tensor)
        if _round_layer(layer, storage[f"{name}.weight"], learned_from[name], judged_by[name], plain):
            kept.append(f"{name}.weight")
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for name, grid in storage.items():
            if name not in kept and grid.kind != "float":
                rounded.get_parameter(name).copy_(nearest.get_parameter(name))
    learned_db = _decibels(wanted, _embed(rounded, held))
    return RoundedTower(
        tower, tuple(kept) if learned_db > nearest_db else (), len(layers), round(nearest_db, 2), round(learned_db, 2)
    )


@torch.no_grad()
def _round_layer(
    layer: nn.Conv2d | nn.Linear, grid: Grid, learned_from: Moments, judged_by: Moments, nearest: Tensor
) -> bool:
    """Put a layer on its grid, its bias taking up the mean of the error; whether that is nearer than the nearest.

    Where it is not, on the inputs held back, the layer stays as it was.
    """
    centred = layer.bias is not None
    hessian = learned_from.centred() if centred else learned_from.second
    moments = hessian.diagonal(dim1=1, dim2=2).clamp(min=0)
    weight = layer.weight.reshape(len(hessian), -1, hessian.shape[1])  # [G, R, n]
    rounded = round_columns(weight, hessian, lattice_of(grid, layer.weight, moments))
    if rounded is None:
        return False
    error = weight - rounded
    # The bias is learned too: what the held-back inputs say of it counts.
    correction = (error @ learned_from.mean[:, :, None])[..., 0]  # [G, R]
    cost = judged_by.cost_with_bias(error, correction) if centred else judged_by.cost(error)
    if not cost < judged_by.cost(weight - nearest.reshape(weight.shape)):
        return False
    layer.weight.copy_(rounded.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.add_(correction.flatten())
    return True


@torch.no_grad()
def _with_nearest(module: nn.Module, storage: Storage) -> nn.Module:
    """A copy of a tower with every weight as an export without learning stores it."""
    rounded = copy.deepcopy(module)
    tensors = dict(rounded.named_parameters()) | dict(rounded.named_buffers())
    for name, grid in storage.items():
        if grid.kind != "float":
            tensors[name].copy_(to_nearest(grid, tensors[name]))
    return rounded


@torch.no_grad()
def _embed(module: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([module(batch) for batch in inputs.split(BATCH)])


def _decibels(wanted: Tensor, found: Tensor) -> float:
    """Centred SNR; infinite where the two are the same."""
    deviation = compare(wanted.numpy(), found.numpy())
    return float("inf") if deviation.snr_db is None else deviation.snr_db
