"""Tuning of the tensors that stay float: biases, norms, positions, each block's scale and each table's entries. The
integers of weights and the indices of tables are fixed.

Rounding leaves each layer an error that no other integers make smaller; the floats around the layer compensate more of
it. They are few (some percent of the weights), so little data does not mislead them as it would mislead the integers.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import IntegerLattice, Lattice, TableLattice, held_scale

# Images of a batch that go through an image tower together: a step of S0 then takes 2.6 GB and 29 CPU s; with 8 at a
# time, 1.7 GB and 32 CPU s.
IMAGES_AT_ONCE = 16
RANKED = 512
"""Number of embeddings of the other tower that are ranked at each step."""
RANKING = 0.1
"""Weight of the ranking's divergence in the loss."""


@dataclass(frozen=True)
class TuningSettings:
    """Settings of the tuning: `steps` of `batch` inputs, with Adam and a cosine schedule to 0. `relative_rate` is the
    rate of scales and entries, relative to their size."""

    steps: int = 120
    batch: int = 64
    learning_rate: float = 5e-4
    relative_rate: float = 3e-4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Placed:
    """A weight on its lattice: `values` [G, R, n] are points of the lattice, for a weight of `shape`."""

    grid: Grid
    lattice: Lattice
    values: Tensor
    shape: torch.Size


@dataclass(frozen=True, eq=False)
class Goal:
    """Goal of tuning a tower.

    Attributes:
        inputs: inputs of the tower.
        wanted: unit embeddings [N, D] of the inputs by the float original.
        across: unit embeddings [M, D] of the other tower, to be ranked as the float original ranks them.
        scale: the model's factor of the cosines.
        fixed: parameters of the tower that must not change (`Storing.fixed`).
    """

    inputs: Tensor
    wanted: Tensor
    across: Tensor
    scale: float
    fixed: frozenset[str] = frozenset()


def distance(found: Tensor, wanted: Tensor, others: Tensor, scale: float) -> Tensor:
    """Returns the training loss: 1 - cosine, plus a share of the divergence between the two rankings of other
    embeddings.

    Args:
        found, wanted: actual and expected unit embeddings [B, D].
        others: unit embeddings [M, D] of the other tower, to be ranked.
        scale: the model's factor of the cosines.
    """
    ours, theirs = (F.log_softmax(scale * side @ others.T, dim=1) for side in (found, wanted))
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return (1 - (found * wanted).sum(dim=1)).mean() + RANKING * divergence


def tune(
    tower: nn.Module, placed: Mapping[str, Placed], goal: Goal, settings: TuningSettings, progress: Progress = silent
) -> None:
    """Tunes a tower in place; its weights keep their lattices' integers and indices.

    Args:
        tower: as exported, folded, in eval mode.
        placed: every weight that is stored on a grid, by the name of its module.
    """
    for name, weight in placed.items():
        fixed = _fixed(weight)
        parametrize.register_parametrization(tower.get_submodule(name), "weight", fixed, unsafe=True)
    tower.requires_grad_(False)
    floats, relative = _trained(tower, goal.fixed)
    optimizer = torch.optim.Adam(
        [{"params": floats, "lr": settings.learning_rate}, {"params": relative, "lr": settings.relative_rate}]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    at_once = IMAGES_AT_ONCE if goal.inputs.is_floating_point() else settings.batch
    started = time.monotonic()
    for step in range(settings.steps):
        chosen = torch.randint(len(goal.inputs), (settings.batch,), generator=generator)
        others = goal.across[torch.randint(len(goal.across), (RANKED,), generator=generator)]
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in chosen.split(at_once):  # both terms of the distance are means over the inputs
            embeddings = F.normalize(tower(goal.inputs[part]), dim=1)
            loss = distance(embeddings, goal.wanted[part], others, goal.scale) * (len(part) / len(chosen))
            loss.backward()
            total += loss.item()
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            left = (time.monotonic() - started) / (step + 1) * (settings.steps - step - 1)
            progress(
                f"tuning, step {step + 1} of {settings.steps}, loss {total:.4f}, about {left / 60:.1f} minutes left"
            )
    tower.requires_grad_(False)
    for name in placed:
        layer = tower.get_submodule(name)
        for parametrization in layer.parametrizations["weight"]:  # type: ignore[index]
            parametrization.hold()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    tower.requires_grad_(False)


def _trained(tower: nn.Module, fixed: frozenset[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the float parameters that are not fixed, and the scales and entries."""
    floats: list[nn.Parameter] = []
    relative: list[nn.Parameter] = []
    for name, parameter in tower.named_parameters():
        if name.endswith(".original") or name in fixed:
            continue
        parameter.requires_grad_(True)
        (relative if ".parametrizations." in name else floats).append(parameter)
    return floats, relative


def _fixed(weight: Placed) -> nn.Module:
    if isinstance(weight.lattice, IntegerLattice):
        return FixedIntegers(weight, weight.lattice)
    assert isinstance(weight.lattice, TableLattice)
    return FixedIndices(weight, weight.lattice)


class FixedIntegers(nn.Module):
    """Integers [G, R, n] times the scale of their block; the scale is trained in proportion to itself."""

    integers: Tensor
    blocks: Tensor
    scales: Tensor

    def __init__(self, weight: Placed, lattice: IntegerLattice) -> None:
        super().__init__()
        assert lattice.blocks is not None
        self.grid, self.shape = weight.grid, weight.shape
        self.register_buffer("integers", (weight.values / lattice.scales).round().to(torch.int8))
        self.register_buffer("blocks", lattice.blocks)
        first = torch.stack([(lattice.blocks == number).nonzero()[0, 0] for number in lattice.blocks.unique()])
        self.register_buffer("scales", lattice.scales[:, :, first])
        self.factor = nn.Parameter(torch.zeros_like(self.scales))

    def forward(self, _: Tensor) -> Tensor:
        scales = self.scales * (1 + self.factor)
        return (self.integers * scales[:, :, self.blocks]).reshape(self.shape)

    @torch.no_grad()
    def hold(self) -> None:
        """Rounds the scales to values that a file can hold."""
        self.scales.copy_(held_scale(self.grid, self.scales * (1 + self.factor)))
        self.factor.zero_()


class FixedIndices(nn.Module):
    """Indices [O, n] into tables of entries, which are trained in proportion to the table's largest entry."""

    indices: Tensor
    tables: Tensor
    entries: Tensor

    def __init__(self, weight: Placed, lattice: TableLattice) -> None:
        super().__init__()
        self.shape = weight.shape
        rows, tables = weight.values.flatten(0, 1), lattice.tables.flatten()
        middles = (lattice.entries[:, 1:] + lattice.entries[:, :-1]) / 2
        parts = [
            torch.searchsorted(middles[number], rows[tables == number].contiguous())
            for number in range(len(lattice.entries))
        ]
        indices = torch.empty(rows.shape, dtype=torch.int64)
        for number, part in enumerate(parts):
            indices[tables == number] = part
        # Indices into the concatenated tables.
        self.register_buffer("indices", (indices + tables[:, None] * lattice.entries.shape[1]).int())
        self.register_buffer("entries", lattice.entries)
        self.factor = nn.Parameter(torch.zeros_like(lattice.entries))

    def forward(self, _: Tensor) -> Tensor:
        return self._tuned().flatten()[self.indices].reshape(self.shape)

    def _tuned(self) -> Tensor:
        return self.entries + self.factor * self.entries.abs().amax(dim=1, keepdim=True)

    @torch.no_grad()
    def hold(self) -> None:
        """Rounds the entries to float16, in which they are stored."""
        self.entries.copy_(self._tuned().half().float())
        self.factor.zero_()
