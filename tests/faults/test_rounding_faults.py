"""Faults in weights whose rounding was learned, with the recorded hash repaired: of any format, as a grid has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from mobileclip_deploy.rounding.columns import round_columns
from mobileclip_deploy.rounding.layer_answers import LayerAnswers, layer_answers
from mobileclip_deploy.rounding.moments import Moments
from mobileclip_deploy.rounding.tuning import TuningSettings
from mobileclip_deploy.rounding.verified import TUNED, Choice, stored_sha256, unlike_choice
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, Tables, on_grid, spread
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.lattice import Lattice, TableLattice, lattice_of
from mobileclip_deploy.verify.matching import Matched

OUTPUTS, INPUTS, BLOCK, OUTPUT, WORDS = 24, 96, 32, 5, 200
GRIDS = {
    "int8": Grid(8, "integers", low=-127, high=127, scale_bytes=4),
    "int4": Grid(4, "integers", block=BLOCK, low=-8, high=7, scale_bytes=2),
    "table": Grid(4, "table"),
}


@dataclass(frozen=True)
class Learned:
    """A weight [O, I] with its integers or indices, the scales or entries that they stand for, and values [N, I] that
    reach it; of a table of words none do."""

    grid: Grid
    inputs: torch.Tensor | None
    wanted: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float32]

    @property
    def stored(self) -> StoredWeight:
        if self.grid.kind == "table":
            return on_grid("weight", Tables(self.scales.reshape(1, 1, -1)), self.numbers)
        scale = spread(self.scales, self.wanted.shape, self.grid.block)
        return on_grid("weight", Affine(scale, self.grid.bits), self.numbers)

    def told(self, method: str = "gptq", sha256: str | None = None) -> str | None:
        match, answers = Matched("layer.weight", self.wanted, self.stored, "plain"), None
        if self.inputs is not None:
            count = torch.tensor([float(len(self.inputs))])
            moments = Moments((self.inputs.T @ self.inputs)[None], self.inputs.sum(dim=0)[None], count, count)
            answers = LayerAnswers(match, self.grid, moments, biased=False)
        choice = Choice(self.grid, sha256 or stored_sha256(self.stored), method, half=False)
        return unlike_choice(match, choice, answers)


@pytest.fixture(scope="module", params=GRIDS)
def learned(request: pytest.FixtureRequest) -> Learned:
    """Rounded by GPTQ on inputs of which each is much like its neighbours; judged by others like them."""
    grid, generator = GRIDS[request.param], torch.Generator().manual_seed(0)
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator)
    every = torch.randn(1024, INPUTS + 8, generator=generator).unfold(1, 9, 1).mean(dim=2) + 0.2
    return rounded(grid, weight, every[:512], every[512:])


def rounded(grid: Grid, weight: Tensor, seen: Tensor, judged: Tensor) -> Learned:
    """A weight [O, I] rounded by GPTQ on values [N, I], to be judged by others."""
    moments = (seen.T @ seen)[None]
    lattice = lattice_of(grid, weight, moments.diagonal(dim1=1, dim2=2))
    found = round_columns(weight[None], moments, lattice)
    assert found is not None
    return placed(grid, weight, lattice, found, judged)


@pytest.fixture(scope="module", params=GRIDS)
def words(request: pytest.FixtureRequest) -> Learned:
    """A table of words at its nearest points, whose scales or entries were tuned."""
    grid, generator = GRIDS[request.param], torch.Generator().manual_seed(1)
    weight = torch.randn(WORDS, INPUTS, generator=generator)
    lattice = lattice_of(grid, weight, torch.ones(1, INPUTS))
    own = placed(grid, weight, lattice, lattice.all_nearest(weight[None]), None)
    moved = 1 + 0.015 * np.cos(np.arange(own.scales.size, dtype=np.float32)).reshape(own.scales.shape)
    return replace(own, scales=(own.scales * moved).astype(np.float32))


def placed(grid: Grid, weight: Tensor, lattice: Lattice, values: Tensor, inputs: Tensor | None) -> Learned:
    if isinstance(lattice, TableLattice):
        entries = lattice.entries[0]
        numbers = (values[0][..., None] - entries).abs().argmin(dim=2)
        return Learned(grid, inputs, weight.numpy(), numbers.numpy(), entries.numpy())
    scales = lattice.scales[0].numpy()
    numbers = np.rint(values[0].numpy() / scales).astype(np.int64)
    return Learned(grid, inputs, weight.numpy(), numbers, scales[:, :: grid.block or INPUTS].copy())


def scaled(share: float, place: int | tuple[int, int] = OUTPUT) -> Callable[[Learned], Learned]:
    def change(own: Learned) -> Learned:
        scales = own.scales.copy()
        scales[place] *= np.float32(share)
        return replace(own, scales=scales)

    return change


def scaled_in_all(share: float) -> Callable[[Learned], Learned]:
    return lambda own: replace(own, scales=(own.scales * np.float32(share)).astype(np.float32))


def moved(step: int, outputs: int | slice = OUTPUT) -> Callable[[Learned], Learned]:
    """All integers, or indices, of outputs moved."""

    def change(own: Learned) -> Learned:
        numbers = own.numbers.copy()
        low, high = (0, 15) if own.grid.kind == "table" else (own.grid.low, own.grid.high)
        numbers[outputs] = np.clip(numbers[outputs] + step, low, high)
        return replace(own, numbers=numbers)

    return change


def one_moved(own: Learned) -> Learned:
    """One number by one step: nearest as all the others are."""
    numbers = own.numbers.copy()
    numbers[OUTPUT, 7] += 1 if numbers[OUTPUT, 7] < 0 else -1
    return replace(own, numbers=numbers)


def rounded_coarsely(own: Learned) -> Learned:
    """To every fourth integer."""
    numbers = own.numbers.copy()
    numbers[OUTPUT] = numbers[OUTPUT] // 4 * 4
    return replace(own, numbers=numbers)


def test_what_was_learned_is_a_rounding_and_tuned_scales_may_move(learned: Learned) -> None:
    assert learned.told() is None
    assert learned.told("tuned") is None
    nearest = learned.stored.nearest(learned.wanted)
    assert not np.array_equal(nearest, learned.stored.values)  # it is another one than the nearest
    # Training moves scales by its rates, 1.8% at most.
    if learned.grid.kind == "integers":
        assert scaled(1.015)(learned).told("tuned") is None
        assert scaled(0.985)(learned).told("tuned") is None


def of_directions(count: int, grid: Grid, outputs: int) -> Learned:
    """Learned on values that lie in few directions, and judged by others."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(outputs, INPUTS, generator=generator)
    seen, judged = (
        torch.randn(512, count, generator=generator) @ torch.randn(count, INPUTS, generator=generator) for _ in range(2)
    )
    return rounded(grid, weight, seen, judged)


@pytest.mark.parametrize("name", GRIDS)
def test_what_was_learned_on_other_values_than_it_is_judged_by_is_a_rounding(name: str) -> None:
    """Errors answer next to nothing to the values that learning saw. To others they answer as chance has it, and so do
    the nearest: of many outputs some have luck, and are no measure."""
    own = of_directions(3, GRIDS[name], 4 * OUTPUTS)
    wrong, nearest = (
        np.linalg.norm(own.inputs.numpy() @ (values - own.wanted).T, axis=0)
        for values in (own.stored.values, own.stored.nearest(own.wanted))
    )
    assert (wrong > 3 * nearest).any()  # a bound of what the nearest answer would refuse it
    assert own.told() is None


@pytest.mark.parametrize("name", GRIDS)
def test_faults_are_told_by_other_values_than_it_was_learned_on(name: str) -> None:
    own = of_directions(6, GRIDS[name], OUTPUTS)
    assert own.told() is None
    for change in (scaled_in_all(1.3), moved(1), moved(-1)):
        if name != "table" or change(own).scales is own.scales:
            assert change(own).told() is not None


@pytest.mark.parametrize("name", ["int4", "half int8"])
def test_scales_that_float16_holds_with_few_digits_are_its_rounding(name: str) -> None:
    """Those of an output whose numbers are very small: float16 stands in steps of 6e-8 there."""
    grid = GRIDS["int4"] if name == "int4" else replace(GRIDS["int8"], scale_bytes=2)
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator)
    weight[OUTPUT] *= 2e-5 if name == "int4" else 2e-4
    own = rounded(grid, weight, *torch.randn(2, 512, INPUTS, generator=generator))
    own = replace(own, scales=own.scales.astype(np.float16).astype(np.float32))
    assert own.told() is None
    assert scaled(1.3)(own).told() is not None


def test_an_output_of_small_numbers_in_a_table_of_larger_ones_is_a_rounding() -> None:
    """None of the entries is its own, and the nearest answer anything: small numbers are all near to the one at 0."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(4 * OUTPUTS, INPUTS, generator=generator)
    weight[::2] *= torch.logspace(-3, -1, 2 * OUTPUTS)[:, None]
    assert rounded(GRIDS["table"], weight, *torch.randn(2, 512, INPUTS, generator=generator)).told() is None


@pytest.mark.parametrize(
    "change",
    [scaled(1.03), scaled(1.1), scaled(1.3), scaled(0.7), moved(1), moved(-1)],
    ids=["3%", "10%", "1.3", "0.7", "up", "down"],
)
@pytest.mark.parametrize("method", ["gptq", "tuned"])
def test_a_fault_that_the_hash_does_not_tell_fails(
    learned: Learned, change: Callable[[Learned], Learned], method: str
) -> None:
    if learned.grid.kind == "table" and change(learned).scales is not learned.scales:
        return  # its entries are not one output's
    if method == "tuned" and learned.grid.bits < 8 and np.allclose(change(learned).scales, learned.scales, rtol=0.12):
        return  # shares that are tried lie 2.5% apart, and tuning moves them: not each of these is told
    told = change(learned).told(method)
    assert f"outputs {OUTPUT} " in told


@pytest.mark.parametrize("share", [1.3, 0.7])
def test_a_block_whose_scale_is_another_fails(learned: Learned, share: float) -> None:
    if learned.grid.block is None:
        return
    told = scaled(share, (OUTPUT, 1))(learned).told()
    assert f"outputs {OUTPUT} are scaled" in told or f"of outputs {OUTPUT} are so" in told


def test_outputs_that_drift_where_no_input_shows_it_are_told_where_many_do(learned: Learned) -> None:
    """What a LayerNorm gives sums to 0: GPTQ holds no output back from drifting there, and an index that is read
    wrongly drifts in all of them."""
    unseen = replace(learned, inputs=learned.inputs - learned.inputs.mean(dim=1, keepdim=True))
    assert "off to the same side" not in str(moved(1)(unseen).told())
    for step in (1, -1):
        told = str(moved(step, slice(None))(unseen).told())
        assert "off to the same side" in told or (learned.grid.block and "has scales that" in told)


def test_a_table_of_words_is_rounded_to_the_nearest_and_its_scales_move_as_far_as_tuning_moves_them(
    words: Learned,
) -> None:
    assert words.told("tuned") is None
    if words.grid.kind == "integers" and words.grid.bits == 8:
        assert f"outputs {OUTPUT} are not" in str(scaled(1.04)(words).told("tuned"))


@pytest.mark.parametrize("change", [moved(1), moved(-1), one_moved], ids=["up", "down", "one number"])
def test_a_number_of_a_word_that_is_not_the_nearest_fails(words: Learned, change: Callable[[Learned], Learned]) -> None:
    assert f"is not rounded to the nearest: outputs {OUTPUT}" in str(change(words).told("tuned"))


def test_scales_may_move_by_what_the_rates_of_tuning_add_up_to() -> None:
    own = TuningSettings()
    rates = (own.relative_rate * (1 + math.cos(math.pi * step / own.steps)) / 2 for step in range(own.steps))
    assert sum(rates) == pytest.approx(TUNED, rel=0.01)


def test_another_hash_than_the_recorded_one_fails_first(learned: Learned) -> None:
    assert "another SHA-256" in str(rounded_coarsely(learned).told(sha256=stored_sha256(learned.stored)))


class Ends(torch.nn.Module):
    """A tower that reads one position of a layer's answers [N, T, O], as an end of text is read."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.layer.weight = torch.nn.Parameter(weight)

    def forward(self, values: Tensor) -> Tensor:
        answers: Tensor = self.layer(values)
        return answers[:, 0]


def test_what_errors_answer_where_nothing_is_read_says_nothing_of_a_layer() -> None:
    """Padding behind a text: many values, all alike, to which learning leaves errors as they come."""
    generator = torch.Generator().manual_seed(6)
    weight = torch.randn(4 * OUTPUTS, INPUTS, generator=generator)
    seen, judged = torch.randn(2, 512, INPUTS, generator=generator)
    padding = 10 * torch.randn(INPUTS, generator=generator).expand(len(judged), 7, INPUTS)
    own = rounded(GRIDS["int4"], weight, seen, judged)
    inputs = torch.cat([judged[:, None], padding], dim=1)

    def told(learned: Learned) -> str | None:
        match = Matched("layer.weight", weight.numpy(), learned.stored, "plain")
        answers = layer_answers(Ends(weight), [match], {"layer.weight": own.grid}, inputs)["layer.weight"]
        return unlike_choice(match, Choice(own.grid, stored_sha256(learned.stored), "gptq", half=False), answers)

    assert told(own) is None
    assert f"outputs {OUTPUT} " in str(told(scaled(1.03)(own)))
