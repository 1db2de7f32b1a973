"""Learned rounding of towers: puts each layer's weight on its grid so that its outputs stay close.

The learned rounding is kept only if it is better on inputs that were held back.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import compare
from mobileclip_deploy.rounding.calibration_set import CalibrationSet
from mobileclip_deploy.rounding.columns import round_columns
from mobileclip_deploy.rounding.kept import KeptTower, kept_as
from mobileclip_deploy.rounding.methods import METHODS
from mobileclip_deploy.rounding.moments import FOR_JUDGING, Moments, gather
from mobileclip_deploy.rounding.tuning import Goal, Placed, TuningSettings, tune
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.grids.encode import to_nearest
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import lattice_of
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import Storage

# Inputs per batch; with gradients, S2's image tower takes half a gigabyte for each input.
BATCH = 8
WITH_GRADIENTS: Mapping[TowerName, int] = {"image": 4, "text": 8}
# Number of inputs for second moments. All of nano's 346 pictures and 922 captions gain no more than another seed does
# (0.1 dB); 192 pictures or 512 captions lose 0.1 to 0.4 dB.
LOOKED_AT: Mapping[TowerName, int] = {"image": 256, "text": 768}
SEED = 0


@dataclass(frozen=True)
class RoundedTower:
    """Outcome of one tower.

    `layers` have learned weights, out of `of` layers. `nearest_db` and `learned_db`: centred SNR in dB of the tower
    against its float original, on the inputs held back, without and with learning. `method` is the best of the tried
    methods. It is "nearest", without `layers`, if learning did not improve the tower; the tower is then unchanged.
    """

    tower: TowerName
    method: str
    layers: tuple[str, ...]
    of: int
    nearest_db: float
    learned_db: float

    def describe(self) -> str:
        """Describes the outcome in a sentence."""
        if self.nearest_db == float("inf"):
            return f"{self.tower} tower: its weights are already quantized, rounding loses nothing"
        figures = f"{self.learned_db:.1f} dB on held-out inputs, {self.nearest_db:.1f} rounded to the nearest"
        if not self.layers:
            return f"{self.tower} tower: rounded to the nearest, because learning did not help ({figures})"
        return f"{self.tower} tower: rounding of {len(self.layers)} layers learned ({self.method}); {figures}"


@dataclass(frozen=True)
class Rounded:
    """A folded source whose towers are on the grids of a target's precisions, and the outcomes."""

    source: Source
    towers: tuple[RoundedTower, ...]


@dataclass(frozen=True)
class Learning:
    """Options of learning: the method, and the 4-bit layers of precision "mixed" (see `TowerJob`).

    `kept`: a folder for finished towers, one file each, so that the same call can resume after a kill. None if nothing
    is cached.
    """

    method: str
    four_bit: Mapping[TowerName, frozenset[str]] = field(default_factory=dict)
    kept: Path | None = None


def round_source(
    source: Source,
    target: Target,
    precisions: Mapping[TowerName, str],
    data: CalibrationSet,
    learning: Learning,
    progress: Progress = silent,
) -> Rounded:
    """Learns the rounding of every tower that has a grid to round to.

    Args:
        source: folded; left unchanged.
        learning: method and options.

    Raises:
        InvalidInput: gradients are not numbers.
    """
    result = Source(copy.deepcopy(source.model), source.provenance)
    outcomes = []
    for tower, precision in precisions.items():
        target.capabilities.storing.absorb(getattr(result.model, tower))
        module = make_tower(result.model, tower)
        storage = storage_of(target, tower, module, precision, learning.four_bit.get(tower, frozenset()))
        outcome = None
        if _layers(module, storage):
            cached = _kept(source, target, tower, storage, data, learning)
            recorded = cached.restore(module) if cached is not None else None
            if cached is not None and recorded is not None:
                outcome = RoundedTower(**{**recorded, "layers": tuple(recorded["layers"])})
                progress(f"{tower} tower, its rounding was learned before: {cached.path}")
            else:
                fixed = target.capabilities.storing.fixed(module)
                goal = _goal(source, tower, data, fixed) if learning.method == "tuned" else None
                outcome = _round_tower(tower, module, storage, data, goal, progress)
                if cached is not None:
                    cached.keep(module, asdict(outcome))
        if outcome is None or not outcome.layers:  # restore the original, with its layer scales
            setattr(result.model, tower, copy.deepcopy(getattr(source.model, tower)))
        if outcome is not None:
            outcomes.append(outcome)
    return Rounded(result, tuple(outcomes))


def _kept(
    source: Source, target: Target, tower: TowerName, storage: Storage, data: CalibrationSet, learning: Learning
) -> KeptTower | None:
    """Returns the cached file of a tower, with its key. None if nothing is cached."""
    if learning.kept is None:
        return None
    grids = {name: repr(grid) for name, grid in storage.items()}
    inputs = {"checkpoint": source.provenance.content, "data": data.sha256, "target": target.label}
    key = kept_as(**inputs, tower=tower, method=learning.method, grids=grids, towers=source.model.towers)
    return KeptTower(learning.kept / f"{tower}.safetensors", key)


def _layers(module: nn.Module, storage: Storage) -> dict[str, nn.Conv2d | nn.Linear]:
    """Returns the layers whose rounding can be learned, by name.

    The table of words is left out: no other row can compensate a row's error.
    """
    layers = _on_grids(module, storage)
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)}


def _on_grids(module: nn.Module, storage: Storage) -> dict[str, nn.Conv2d | nn.Linear | nn.Embedding]:
    """Returns every layer whose weight is stored on a grid, by name. Pruned ones are left out: their zeros would have
    to be learned too."""
    layers = {f"{name}.weight": layer for name, layer in module.named_modules()}
    return {
        name.removesuffix(".weight"): layer
        for name, grid in storage.items()
        if grid.kind != "float"
        and not grid.pruned
        and isinstance(layer := layers.get(name), nn.Conv2d | nn.Linear | nn.Embedding)
    }


def _round_tower(
    tower: TowerName,
    module: nn.Module,
    storage: Storage,
    data: CalibrationSet,
    goal: Goal | None,
    progress: Progress,
) -> RoundedTower:
    """Puts a tower's layers on their grids, in place, and tunes the tower if there is a goal."""
    layers = _layers(module, storage)
    held_back = data.held_back(tower)
    expected = _embed(module, held_back)
    nearest = _with_nearest(module, storage)
    nearest_db = _decibels(expected, _embed(nearest, held_back))
    module.requires_grad_(False)
    inputs = data.learned(tower)
    if len(inputs) > (most := LOOKED_AT[tower]):
        inputs = inputs[torch.arange(most) * len(inputs) // most]  # spread evenly
    learned_from = gather(module, layers, inputs.split(WITH_GRADIENTS[tower]), SEED, progress)
    judged_by = gather(module, layers, held_back.split(WITH_GRADIENTS[tower]), SEED + 1, samples=FOR_JUDGING)
    placed: dict[str, Placed] = {}
    for number, (name, layer) in enumerate(layers.items(), 1):
        progress(f"{tower} tower, rounding, layer {number} of {len(layers)}")
        plain = nearest.get_submodule(name).weight
        assert isinstance(plain, Tensor)
        weight = _round_layer(layer, storage[f"{name}.weight"], learned_from[name], judged_by[name], plain)
        if weight is not None:
            placed[name] = weight
    rounded = copy.deepcopy(module)
    with torch.no_grad():
        for name in _on_grids(module, storage):
            if name not in placed:
                rounded.get_parameter(f"{name}.weight").copy_(nearest.get_parameter(f"{name}.weight"))
    learned_db = _decibels(expected, _embed(rounded, held_back))
    method = "gptq"
    if goal is not None:
        tuned, every = copy.deepcopy(module), _all_placed(module, storage, placed)
        tune(tuned, every, goal, TuningSettings(), lambda text: progress(f"{tower} tower, {text}"))
        tuned_db = _decibels(expected, _embed(tuned, held_back))
        if tuned_db > learned_db:
            method, placed, learned_db = "tuned", every, tuned_db
            module.load_state_dict(tuned.state_dict())
    if not learned_db > nearest_db:
        method, placed = METHODS[0], {}
    names = tuple(f"{name}.weight" for name in placed)
    return RoundedTower(tower, method, names, len(layers), round(nearest_db, 2), round(learned_db, 2))


def _all_placed(module: nn.Module, storage: Storage, placed: Mapping[str, Placed]) -> dict[str, Placed]:
    """Returns every weight on its lattice: weights without learned rounding at their nearest points."""
    every = {}
    for name, layer in _on_grids(module, storage).items():
        if name in placed:
            every[name] = placed[name]
            continue
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        weight, grid = layer.weight.detach(), storage[f"{name}.weight"]
        rows = weight.reshape(groups, weight.shape[0] // groups, -1)
        lattice = lattice_of(grid, weight, torch.ones(groups, rows.shape[2]))
        every[name] = Placed(grid, lattice, lattice.all_nearest(rows), weight.shape)
    return every


def _goal(source: Source, tower: TowerName, data: CalibrationSet, fixed: frozenset[str]) -> Goal:
    """Returns the goal of tuning a tower: it ranks embeddings of the other tower if there are any, else its own."""
    inputs = data.learned(tower)
    expected = F.normalize(_embed(make_tower(source.model, tower), inputs), dim=1)
    other: TowerName = "text" if tower == "image" else "image"
    other_inputs = data.learned(other)
    ranked = expected
    if other in source.model.towers and len(other_inputs):
        ranked = F.normalize(_embed(make_tower(source.model, other), other_inputs), dim=1)
    return Goal(inputs, expected, ranked, source.model.logit_factor, fixed)


@torch.no_grad()
def _round_layer(
    layer: nn.Conv2d | nn.Linear, grid: Grid, learned_from: Moments, judged_by: Moments, nearest: Tensor
) -> Placed | None:
    """Puts a layer on its grid; its bias compensates the mean of the error.

    None if that is not nearer than rounding to the nearest, on the inputs held back; the layer is then unchanged.
    """
    centred = layer.bias is not None
    hessian = learned_from.centred() if centred else learned_from.second
    moments = hessian.diagonal(dim1=1, dim2=2).clamp(min=0)
    weight = layer.weight.reshape(len(hessian), -1, hessian.shape[1])  # [G, R, n]
    lattice = lattice_of(grid, layer.weight, moments)
    rounded = round_columns(weight, hessian, lattice)
    if rounded is None:
        return None
    error = weight - rounded
    correction = (error @ learned_from.mean[:, :, None])[..., 0]  # [G, R]
    cost = judged_by.cost_with_bias(error, correction) if centred else judged_by.cost(error)
    if not cost < judged_by.cost(weight - nearest.reshape(weight.shape)):
        return None
    layer.weight.copy_(rounded.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.add_(correction.flatten())
    return Placed(grid, lattice, rounded, layer.weight.shape)


@torch.no_grad()
def _with_nearest(module: nn.Module, storage: Storage) -> nn.Module:
    """Returns a copy of a tower with every weight as an export without learning stores it."""
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
    """Returns the centred SNR; infinite if the two are the same."""
    deviation = compare(wanted.numpy(), found.numpy())
    return float("inf") if deviation.snr_db is None else deviation.snr_db
