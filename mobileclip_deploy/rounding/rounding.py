"""Learned rounding of towers: each layer's weight on its grid so that its outputs stay, kept where that holds on inputs
that were not learned from."""

from __future__ import annotations

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
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import lattice_of
from mobileclip_deploy.targets.grids.train import to_nearest
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import Storage

# Inputs at a time; with gradients S2's image tower takes half a gigabyte for each.
BATCH = 8
WITH_GRADIENTS: Mapping[TowerName, int] = {"image": 4, "text": 8}
# So many inputs are looked at for second moments: all of nano's 346 pictures and 922 captions are worth no more than
# another seed is (0.1 dB), 192 pictures or 512 captions lose 0.1 to 0.4.
LOOKED_AT: Mapping[TowerName, int] = {"image": 256, "text": 768}
SEED = 0


@dataclass(frozen=True)
class RoundedTower:
    """One tower: which of its layers stand on numbers that were learned, of how many; and how near it is to its float
    original on the inputs held back, centred SNR in dB, without learning and with it.

    `method` is the one of those wanted that came nearest: "nearest", with no `layers`, where the tower as a whole was
    not nearer, and stays as it was.
    """

    tower: TowerName
    method: str
    layers: tuple[str, ...]
    of: int
    nearest_db: float
    learned_db: float

    def describe(self) -> str:
        """In a sentence."""
        if self.nearest_db == float("inf"):
            return f"{self.tower} tower: its weights are on the grid already, rounding loses nothing"
        figures = f"{self.learned_db:.1f} dB on the inputs held back, {self.nearest_db:.1f} rounded to the nearest"
        if not self.layers:
            return f"{self.tower} tower: rounded to the nearest, learning did not help ({figures})"
        return f"{self.tower} tower: rounding of {len(self.layers)} layers learned ({self.method}); {figures}"


@dataclass(frozen=True)
class Rounded:
    """A folded source whose towers stand on the grids of a target's precisions, and how that came out."""

    source: Source
    towers: tuple[RoundedTower, ...]


@dataclass(frozen=True)
class Learning:
    """How rounding is learned: the method, and the layers of precision "mixed" that have 4 bits (see `TowerJob`).

    `kept`: a folder for towers that are done, each in a file, from which the same call goes on after a kill; None
    where nothing is kept.
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
    """Learn the rounding of every tower that has a grid to be rounded to.

    Args:
        source: folded; it stays as it is.
        learning: how.

    Raises:
        InvalidInput: gradients are not numbers.
    """
    result = Source(copy.deepcopy(source.model), source.provenance)
    outcomes = []
    for tower, precision in precisions.items():
        target.abilities.absorb(getattr(result.model, tower))
        module = make_tower(result.model, tower)
        storage = storage_of(target, tower, module, precision, learning.four_bit.get(tower, frozenset()))
        outcome = None
        if _layers(module, storage):
            kept = _kept(source, target, tower, storage, data, learning)
            before = kept.restore(module) if kept is not None else None
            if kept is not None and before is not None:
                outcome = RoundedTower(**{**before, "layers": tuple(before["layers"])})
                progress(f"{tower} tower, its rounding was learned before: {kept.path}")
            else:
                fixed = target.abilities.fixed(module)
                goal = _goal(source, tower, data, fixed) if learning.method == "tuned" else None
                outcome = _round_tower(tower, module, storage, data, goal, progress)
                if kept is not None:
                    kept.keep(module, asdict(outcome))
        if outcome is None or not outcome.layers:  # as it was, its layer scales too
            setattr(result.model, tower, copy.deepcopy(getattr(source.model, tower)))
        if outcome is not None:
            outcomes.append(outcome)
    return Rounded(result, tuple(outcomes))


def _kept(
    source: Source, target: Target, tower: TowerName, storage: Storage, data: CalibrationSet, learning: Learning
) -> KeptTower | None:
    """Where a tower is kept, and as what."""
    if learning.kept is None:
        return None
    grids = {name: repr(grid) for name, grid in storage.items()}
    of = {"checkpoint": source.provenance.content, "data": data.sha256, "target": target.label}
    key = kept_as(**of, tower=tower, method=learning.method, grids=grids, towers=source.model.towers)
    return KeptTower(learning.kept / f"{tower}.safetensors", key)


def _layers(module: nn.Module, storage: Storage) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers whose rounding can be learned, by name. The table of words is none: what a row is off by can be taken
    up by no other."""
    found = _on_grids(module, storage)
    return {name: layer for name, layer in found.items() if isinstance(layer, nn.Conv2d | nn.Linear)}


def _on_grids(module: nn.Module, storage: Storage) -> dict[str, nn.Conv2d | nn.Linear | nn.Embedding]:
    """Every layer whose weight is stored on a grid, by name; but for pruned ones, whose zeros would have to be learned
    too."""
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
    """Put a tower's layers on their grids, in place, and tune it where there is a goal."""
    layers = _layers(module, storage)
    held = data.held_back(tower)
    wanted = _embed(module, held)
    nearest = _with_nearest(module, storage)
    nearest_db = _decibels(wanted, _embed(nearest, held))
    module.requires_grad_(False)
    inputs = data.learned(tower)
    if len(inputs) > (most := LOOKED_AT[tower]):
        inputs = inputs[torch.arange(most) * len(inputs) // most]  # spread evenly
    learned_from = gather(module, layers, inputs.split(WITH_GRADIENTS[tower]), SEED, progress)
    judged_by = gather(module, layers, held.split(WITH_GRADIENTS[tower]), SEED + 1, samples=FOR_JUDGING)
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
    learned_db = _decibels(wanted, _embed(rounded, held))
    method = "gptq"
    if goal is not None:
        tuned, every = copy.deepcopy(module), _all_placed(module, storage, placed)
        tune(tuned, every, goal, TuningSettings(), lambda text: progress(f"{tower} tower, {text}"))
        tuned_db = _decibels(wanted, _embed(tuned, held))
        if tuned_db > learned_db:
            method, placed, learned_db = "tuned", every, tuned_db
            module.load_state_dict(tuned.state_dict())
    if not learned_db > nearest_db:
        method, placed = METHODS[0], {}
    names = tuple(f"{name}.weight" for name in placed)
    return RoundedTower(tower, method, names, len(layers), round(nearest_db, 2), round(learned_db, 2))


def _all_placed(module: nn.Module, storage: Storage, placed: Mapping[str, Placed]) -> dict[str, Placed]:
    """Every weight on its lattice: those whose rounding was not learned at their nearest points."""
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
    """What a tower is tuned to. It ranks embeddings of the other tower, where there are any, else its own."""
    inputs = data.learned(tower)
    wanted = F.normalize(_embed(make_tower(source.model, tower), inputs), dim=1)
    other: TowerName = "text" if tower == "image" else "image"
    shown = data.learned(other)
    across = wanted
    if other in source.model.towers and len(shown):
        across = F.normalize(_embed(make_tower(source.model, other), shown), dim=1)
    return Goal(inputs, wanted, across, source.model.logit_factor, fixed)


@torch.no_grad()
def _round_layer(
    layer: nn.Conv2d | nn.Linear, grid: Grid, learned_from: Moments, judged_by: Moments, nearest: Tensor
) -> Placed | None:
    """Put a layer on its grid, its bias taking up the mean of the error.

    None where that is not nearer than the nearest on the inputs held back: the layer stays as it was.
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
