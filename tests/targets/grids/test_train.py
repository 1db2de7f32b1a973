"""A weight on a grid is found again: rounding it once more changes nothing, here and in what the targets do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels
from mobileclip_deploy.targets.grids.palette import palette
from mobileclip_deploy.targets.grids.train import BlockGrid, PaletteGrid, SearchedGrid


def weight(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values * (1 + 5 * torch.rand(shape[0], *[1] * (len(shape) - 1), generator=torch.Generator().manual_seed(1)))


CASES = {
    "int4 linear": (BlockGrid, weight(12, 96), 4, 32),
    "int4 convolution": (BlockGrid, weight(8, 64, 3, 3), 4, 16),
    "int8 depthwise": (BlockGrid, weight(64, 1, 7, 7), 8, None),
    "int4 of ONNX": (SearchedGrid, weight(40, 96), 4, 32),
    "4-bit table": (PaletteGrid, weight(40, 96), 4, None),
    "6-bit table": (PaletteGrid, weight(40, 96), 6, None),
    "4-bit tables of groups": (PaletteGrid, weight(40, 96), 4, 8),
}


def lay(case: str, values: torch.Tensor) -> BlockGrid | PaletteGrid:
    if case == "int4 of ONNX":
        return SearchedGrid(values, 32)
    kind, _, bits, block = CASES[case]
    return (PaletteGrid(values, bits, block) if kind is PaletteGrid else BlockGrid(values, bits, block)).eval()


def make(case: str) -> tuple[BlockGrid | PaletteGrid, torch.Tensor]:
    values = CASES[case][1]
    return lay(case, values), values


@pytest.mark.parametrize("case", CASES)
def test_rounding_twice_is_rounding_once(case: str) -> None:
    grid, values = make(case)
    with torch.no_grad():
        once = grid(values)
        again = lay(case, once)(once)
    assert torch.allclose(again, once, rtol=1e-6, atol=0)
    assert 1e-4 < (once - values).norm() / values.norm() < 0.2


@pytest.mark.parametrize("case", ["int4 linear", "int4 convolution", "int8 depthwise"])
def test_every_block_reaches_the_end_of_its_range(case: str) -> None:
    grid, values = make(case)
    codes = grid.codes(values).reshape(len(values), grid.blocks, -1)
    assert (codes.abs().amax(2) == grid.high).all()


@pytest.mark.parametrize("case", ["int4 linear", "int4 convolution", "int8 depthwise"])
def test_coremltools_finds_the_trained_integers_in_float16(case: str) -> None:
    from coremltools.optimize._utils import compute_qparams

    grid, values = make(case)
    with torch.no_grad():
        on_grid = grid(values).half().numpy()
    blocks = [1, grid.block or 0] + [0] * (values.ndim - 2)
    found = compute_qparams(on_grid, grid.bits, True, "LINEAR_SYMMETRIC", np.int8, blocks)
    assert np.array_equal(found[0].astype(np.int8), grid.codes(values).numpy())


def test_our_onnx_export_finds_the_trained_integers() -> None:
    grid, values = make("int8 depthwise")
    with torch.no_grad():
        assert np.array_equal(int8_channels(grid(values).numpy(), 0)[0], grid.codes(values).numpy())
    for case in ("int4 linear", "int4 of ONNX"):
        grid, values = make(case)
        with torch.no_grad():
            found, scales = int4_blocks(grid(values).numpy(), 32)
        assert np.array_equal((found * np.sign(scales)[..., None]).reshape(values.shape), grid.codes(values).numpy())


def test_our_onnx_export_finds_them_wherever_the_scales_were_trained_to() -> None:
    values = weight(400, 96)
    grid = SearchedGrid(values, 16)
    with torch.no_grad():
        grid.share.uniform_(0.2, 1.3, generator=torch.Generator().manual_seed(2))
        found, scales = int4_blocks(grid(values).numpy(), 16)
    assert np.array_equal((found * np.sign(scales)[..., None]).reshape(values.shape), grid.codes(values).numpy())


@pytest.mark.parametrize("case", ["4-bit table", "6-bit table", "4-bit tables of groups"])
def test_our_palette_finds_the_trained_table(case: str) -> None:
    grid, values = make(case)
    with torch.no_grad():
        on_grid = grid(values).half().numpy()
    for part in np.split(on_grid, len(grid.tables)):
        table, indices = palette(part, grid.bits)
        assert np.array_equal(table[indices].reshape(part.shape), part)
        assert len(np.unique(part)) <= 2**grid.bits


def test_training_moves_each_entry_of_a_table_to_the_mean_of_the_values_nearest_to_it() -> None:
    moved = weight(40, 96) + 1
    grid = PaletteGrid(weight(40, 96), 4)
    nearest = grid.codes(moved)
    grid.train()(moved)
    means = torch.stack([moved[nearest == entry].mean() for entry in nearest.unique()])
    assert torch.allclose(grid.tables[0, nearest.unique().long()], means, atol=1e-4)


def test_outputs_that_share_a_table_are_rounded_and_trained_as_a_weight_of_their_own() -> None:
    values, moved = weight(40, 96), weight(40, 96, seed=3)
    together = PaletteGrid(values, 4, 8)
    with torch.no_grad():
        together.train()(moved)  # moves its entries
        found = together.eval()(moved)
        for part in range(0, 40, 8):
            alone = PaletteGrid(values[part : part + 8], 4).train()
            alone(moved[part : part + 8])
            assert torch.equal(alone.eval()(moved[part : part + 8]), found[part : part + 8])
            assert torch.equal(alone.codes(moved[part : part + 8]), together.codes(moved)[part : part + 8])


@pytest.mark.parametrize("case", CASES)
def test_gradients_pass_through_the_rounding(case: str) -> None:
    grid, values = make(case)
    values = values.clone().requires_grad_(True)
    grid(values).sum().backward()
    assert values.grad is not None
    assert (values.grad != 0).float().mean() > 0.8


@pytest.mark.parametrize("case", ["int8 depthwise", "4-bit table", "6-bit table", "4-bit tables of groups"])
def test_without_training_a_grid_changes_nothing_but_the_rounding(case: str) -> None:
    grid, values = make(case)
    with torch.no_grad():
        assert torch.allclose(grid.plain(values), grid(values), rtol=1e-6, atol=0)


def test_four_bits_without_training_are_what_the_targets_choose() -> None:
    _, values = make("int4 linear")
    largest = values.reshape(12, 3, 32).abs().amax(2, keepdim=True) / 7
    rounded = ((values.reshape(12, 3, 32) / largest).round() * largest).reshape(12, 96)
    assert torch.allclose(BlockGrid(values, 4, 32).plain(values), rounded)
    integers, scales = int4_blocks(values.numpy(), 32)
    searched = SearchedGrid(values, 32).plain(values)
    assert np.allclose(searched.numpy(), (integers * scales[..., None]).reshape(12, 96))
    assert (searched - values).norm() < (rounded - values).norm()


def test_a_block_of_zeros_stays_zero() -> None:
    values = torch.cat((torch.zeros(2, 32), weight(2, 32)), 1)
    grid = BlockGrid(values, 4, 32)
    with torch.no_grad():
        assert (grid(values)[:, :32] == 0).all()
