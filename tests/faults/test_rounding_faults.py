"""Faults in weights whose rounding was learned, with the recorded hash repaired: of any format, as a grid has them."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mobileclip_deploy.rounding.columns import round_columns
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, Tables, on_grid, spread
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import TableLattice, lattice_of
from mobileclip_deploy.verify.instruments.learned_rounding import stored_sha256, unlike_learned
from mobileclip_deploy.verify.instruments.matching import Matched

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
        scale = spread(self.scales, self.wanted.shape, self.grid.block)
        return on_grid("weight", Affine(scale, self.grid.bits), self.numbers)

    def mismatch(self, sha256: str | None = None) -> str | None:
        match = Matched("layer.weight", self.wanted, self.stored, "plain")
        return unlike_learned(match, self.grid, sha256 or stored_sha256(self.stored))


def rounded(grid: Grid, weight: Tensor) -> Learned:
    """A weight [O, I] rounded by GPTQ on values of which each is much like its neighbours."""
    seen = torch.randn(512, INPUTS + 8, generator=torch.Generator().manual_seed(0)).unfold(1, 9, 1).mean(dim=2) + 0.2
    moments = (seen.T @ seen)[None]
    lattice = lattice_of(grid, weight, moments.diagonal(dim1=1, dim2=2))
    values = round_columns(weight[None], moments, lattice)
    assert values is not None
    if isinstance(lattice, TableLattice):
        entries = lattice.entries[0]
        return Learned(
            grid, weight.numpy(), (values[0][..., None] - entries).abs().argmin(dim=2).numpy(), entries.numpy()
        )
    scales = lattice.scales[0].numpy()
    numbers = np.rint(values[0].numpy() / scales).astype(np.int64)
    return Learned(grid, weight.numpy(), numbers, scales[:, :: grid.block or INPUTS].copy())


@pytest.fixture(scope="module", params=GRIDS)
def learned(request: pytest.FixtureRequest) -> Learned:
    return rounded(GRIDS[request.param], torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(0)))


def test_what_was_learned_is_a_rounding_that_is_not_the_nearest(learned: Learned) -> None:
    assert learned.mismatch() is None
    assert not np.array_equal(learned.stored.nearest(learned.wanted), learned.stored.values)


@pytest.mark.parametrize("fault", ["the next output's", "negated", "scaled"])
def test_a_fault_that_the_hash_does_not_tell_fails(learned: Learned, fault: str) -> None:
    grid, numbers, scales = learned.grid, learned.numbers.copy(), learned.scales.copy()
    if fault == "the next output's":
        numbers[OUTPUT] = numbers[OUTPUT + 1]
    elif grid.kind == "table":  # its entries are in order, and none is one output's
        numbers[OUTPUT] = 15 - numbers[OUTPUT] if fault == "negated" else 0
    elif fault == "negated":
        numbers[OUTPUT] = np.clip(-numbers[OUTPUT], grid.low, grid.high)
    else:
        scales[OUTPUT] /= 10
    mismatch = replace(learned, numbers=numbers, scales=scales).mismatch()
    assert f"is not a rounding of the checkpoint's: outputs {OUTPUT} are more than" in str(mismatch)


def test_an_output_of_small_numbers_in_a_table_of_larger_ones_is_a_rounding() -> None:
    """None of the entries is its own, and the nearest answer anything: small numbers are all near to the one at 0."""
    weight = torch.randn(4 * OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(5))
    weight[::2] *= torch.logspace(-3, -1, 2 * OUTPUTS)[:, None]
    learned = rounded(GRIDS["table"], weight)
    assert learned.mismatch() is None
    numbers, output = learned.numbers.copy(), len(weight) - 2
    numbers[output] = np.abs(-learned.wanted[output][:, None] - learned.scales.reshape(-1)).argmin(axis=1)
    text = str(replace(learned, numbers=numbers).mismatch())  # near enough, and negated
    assert text == f"is no rounding of the checkpoint's: outputs {output} have another direction"


def test_another_hash_than_the_recorded_one_fails_first(learned: Learned) -> None:
    numbers = learned.numbers.copy()
    numbers[OUTPUT, 7] += 1 if numbers[OUTPUT, 7] < 0 else -1
    assert "its SHA-256 differs" in str(replace(learned, numbers=numbers).mismatch(stored_sha256(learned.stored)))
