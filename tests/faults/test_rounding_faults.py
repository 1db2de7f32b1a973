"""Faults in weights whose rounding was learned, with the recorded hash repaired: of any format, as a grid has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mobileclip_deploy.learning.rounding.columns import round_columns
from mobileclip_deploy.learning.rounding.tuning import TuningSettings
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, Tables, on_grid, spread
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import IntegerLattice, TableLattice, lattice_of
from mobileclip_deploy.verify.matching import Matched
from mobileclip_deploy.verify.rounding import TUNED, stored_sha256, unlike_choice

OUTPUTS, INPUTS, BLOCK, OUTPUT = 24, 96, 32, 5
GRIDS = {
    "int8": Grid(8, "integers", low=-127, high=127, scale_bytes=4),
    "int4": Grid(4, "integers", block=BLOCK, low=-8, high=7, scale_bytes=2),
    "table": Grid(4, "table"),
}


@dataclass(frozen=True)
class Learned:
    """A weight [O, I] with its integers or indices, and the scales or entries that they stand for."""

    grid: Grid
    wanted: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float32]

    @property
    def stored(self) -> StoredWeight:
        if self.grid.kind == "table":
            return on_grid("weight", Tables(self.scales.reshape(1, 1, -1)), self.numbers)
        scale = spread(self.scales, self.wanted.shape)
        return on_grid("weight", Affine(scale, self.grid.bits), self.numbers)

    def told(self, method: str = "gptq") -> str | None:
        match = Matched("layer.weight", self.wanted, self.stored, "plain")
        return unlike_choice(match, self.grid, stored_sha256(self.stored), method, half=False)


@pytest.fixture(scope="module", params=GRIDS)
def learned(request: pytest.FixtureRequest) -> Learned:
    """Rounded by GPTQ on inputs of which each is much like its neighbours."""
    grid, generator = GRIDS[request.param], torch.Generator().manual_seed(0)
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator)
    inputs = torch.randn(512, INPUTS + 8, generator=generator).unfold(1, 9, 1).mean(dim=2) + 0.2
    moments = (inputs.T @ inputs)[None]
    lattice = lattice_of(grid, weight, moments.diagonal(dim1=1, dim2=2))
    rounded = round_columns(weight[None], moments, lattice)
    assert rounded is not None
    if isinstance(lattice, TableLattice):
        entries = lattice.entries[0]
        numbers = (rounded[0][..., None] - entries).abs().argmin(dim=2)
        return Learned(grid, weight.numpy(), numbers.numpy(), entries.numpy())
    assert isinstance(lattice, IntegerLattice)
    scales = lattice.scales[0].numpy()
    numbers = np.rint(rounded[0].numpy() / scales).astype(np.int64)
    return Learned(grid, weight.numpy(), numbers, scales[:, :: grid.block or INPUTS].copy())


def scaled(share: float) -> Callable[[Learned], Learned]:
    def change(own: Learned) -> Learned:
        scales = own.scales.copy()
        scales[OUTPUT] *= np.float32(share)
        return replace(own, scales=scales)

    return change


def off_by_one(own: Learned) -> Learned:
    numbers = own.numbers.copy()
    numbers[OUTPUT] = np.minimum(numbers[OUTPUT] + 1, 15 if own.grid.kind == "table" else own.grid.high)
    return replace(own, numbers=numbers)


def rounded_coarsely(own: Learned) -> Learned:
    """To every fourth integer."""
    numbers = own.numbers.copy()
    numbers[OUTPUT] = numbers[OUTPUT] // 4 * 4
    return replace(own, numbers=numbers)


def test_what_was_learned_is_a_rounding(learned: Learned) -> None:
    assert learned.told() is None
    assert learned.told("tuned") is None
    nearest = learned.stored.nearest(learned.wanted)
    assert not np.array_equal(nearest, learned.stored.values)  # it is another one than the nearest


@pytest.mark.parametrize(
    "change", [scaled(1.03), scaled(1.3), scaled(0.7), off_by_one], ids=["3%", "1.3", "0.7", "off"]
)
def test_a_fault_that_the_hash_does_not_tell_fails(learned: Learned, change: Callable[[Learned], Learned]) -> None:
    if learned.grid.kind == "table" and change is not off_by_one:
        return  # its entries are not one output's
    told = change(learned).told()
    assert told is not None
    assert f"outputs {OUTPUT} are " in told


def test_tuned_scales_may_move_but_not_as_far_as_this(learned: Learned) -> None:
    """Training moves scales by its rates, 1.8% at most; nothing moves all of an output by a step."""
    assert off_by_one(learned).told("tuned") is not None
    if learned.grid.kind == "integers":
        assert scaled(1.015)(learned).told("tuned") is None
        assert scaled(0.985)(learned).told("tuned") is None


def test_scales_may_move_by_what_the_rates_of_tuning_add_up_to() -> None:
    own = TuningSettings()
    rates = (own.relative_rate * (1 + math.cos(math.pi * step / own.steps)) / 2 for step in range(own.steps))
    assert sum(rates) == pytest.approx(TUNED, rel=0.01)


@pytest.mark.parametrize("method", ["gptq", "tuned"])
@pytest.mark.parametrize("share", [1.03, 0.97, 1.3, 0.7])
def test_scales_that_no_learning_leaves_fail(learned: Learned, method: str, share: float) -> None:
    if learned.grid.kind == "table" or (learned.grid.bits < 8 and share in (1.03, 0.97)):
        return  # its entries are not one output's; at 4 bits shares that are tried lie 2.5% apart
    told = scaled(share)(learned).told(method)
    assert told is not None
    assert f"outputs {OUTPUT} are " in told


def test_another_hash_than_the_recorded_one_fails_first(learned: Learned) -> None:
    match = Matched("layer.weight", learned.wanted, rounded_coarsely(learned).stored, "plain")
    told = unlike_choice(match, learned.grid, stored_sha256(learned.stored), "gptq", half=False)
    assert "another SHA-256" in str(told)
