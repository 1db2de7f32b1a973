"""Tuning trains what is float anyway: weights stay on the integers and indices that were chosen."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobileclip_deploy.rounding.tuning import Goal, Placed, TuningSettings, tune
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.grids.lattice import lattice_of
from mobileclip_deploy.targets.grids.palette import palette

GRIDS = {
    "int8": integers(8, scale_bytes=4),
    "int4 blocks": Grid(4, "integers", block=16, low=-8, high=7, scale_bytes=2),
    "tables": Grid(3, "table", group=8),
}


class Small(nn.Module):
    """Ids -> table of words -> two linear layers, with a norm between them: [N, 4] -> [N, 8]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.norm = nn.Embedding(40, 32), nn.LayerNorm(32)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.second(F.gelu(self.first(self.norm(self.words(ids).mean(dim=1)))))


def placed(tower: nn.Module, grid: Grid) -> dict[str, Placed]:
    """Every weight at its nearest points."""
    found = {}
    for name in ("words", "first", "second"):
        weight = tower.get_submodule(name).weight.detach()  # type: ignore[union-attr]
        lattice = lattice_of(grid, weight, torch.ones(1, weight.shape[1]))
        found[name] = Placed(grid, lattice, lattice.all_nearest(weight[None]), weight.shape)
    return found


@pytest.mark.parametrize("name", GRIDS)
def test_a_tower_is_tuned_and_its_integers_stay(name: str) -> None:
    grid, tower = GRIDS[name], Small()
    inputs = torch.randint(40, (256, 4))
    with torch.no_grad():
        wanted = F.normalize(tower(inputs), dim=1)
    points, tuned = placed(tower, grid), copy.deepcopy(tower)
    with torch.no_grad():
        for layer, weight in points.items():
            tower.get_submodule(layer).weight.copy_(weight.values[0])  # type: ignore[union-attr]
        before = float((F.normalize(tower(inputs), dim=1) - wanted).norm())
    settings = TuningSettings(steps=80, learning_rate=3e-3, relative_rate=1e-3)
    tune(tuned, points, Goal(inputs, wanted, wanted, 10.0), settings)
    with torch.no_grad():
        after = float((F.normalize(tuned(inputs), dim=1) - wanted).norm())
    assert after < 0.8 * before
    for layer, weight in points.items():
        values = tuned.get_submodule(layer).weight.detach()  # type: ignore[union-attr]
        assert not torch.equal(values, weight.values[0])
        assert_found_again(name, values.numpy(), weight.values[0].numpy())


def assert_found_again(name: str, tuned: object, chosen: object) -> None:
    """What the exporter makes of the tuned numbers: themselves, at the integers that it makes of the chosen ones."""
    if name == "tables":
        for part in range(0, len(tuned), 8):  # type: ignore[arg-type]
            values = tuned[part : part + 8].astype("float16")  # type: ignore[index]
            table, indices = palette(values, 3)
            assert (table[indices].reshape(values.shape) == tuned[part : part + 8]).all()  # type: ignore[index]
        return
    for values in (tuned, chosen):
        if name == "int8":
            found, scales = int8_channels(values, 0)  # type: ignore[arg-type]
            assert abs(found * scales - values).max() < 1e-6
        else:
            found, scales = int4_blocks(values, 16)  # type: ignore[arg-type]
            assert (found * scales[..., None]).reshape(values.shape).tolist() == values.tolist()  # type: ignore[attr-defined]
        if values is tuned:
            integers_tuned = found
    assert (integers_tuned == found).all()
