"""A weight is rounded as the targets encode it, and one that is on its grid stays there."""

import numpy as np
import pytest
import torch

from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, to_nearest
from mobileclip_deploy.targets.grids.grid import Grid, integers


def weight(*shape: int) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return values * (1 + 5 * torch.rand(shape[0], *[1] * (len(shape) - 1), generator=torch.Generator().manual_seed(1)))


FOUR = Grid(4, "integers", block=32, low=-8, high=7)
CASES = {
    "int4 linear": (integers(4, block=32, scale_bytes=2), weight(12, 96)),
    "int4, a shorter last block": (FOUR, weight(12, 80)),
    "int4 convolution": (integers(4, block=16, scale_bytes=2), weight(8, 64, 3, 3)),
    "int8 depthwise": (integers(8, scale_bytes=4), weight(64, 1, 7, 7)),
    "int4 of ONNX": (FOUR, weight(40, 96)),
    "4-bit table": (Grid(4, "table"), weight(40, 96)),
    "6-bit table": (Grid(6, "table"), weight(40, 96)),
    "4-bit tables of groups": (Grid(4, "table", group=8), weight(40, 96)),
}


@pytest.mark.parametrize("case", CASES)
def test_rounding_twice_is_rounding_once(case: str) -> None:
    grid, values = CASES[case]
    once = to_nearest(grid, values)
    assert torch.allclose(to_nearest(grid, once), once, rtol=1e-6, atol=0)
    assert 1e-4 < (once - values).norm() / values.norm() < 0.2


def test_eight_bits_are_the_integers_of_the_encoder() -> None:
    grid, values = CASES["int8 depthwise"]
    encoded, scales = int8_channels(values.numpy(), 0)
    assert np.array_equal(to_nearest(grid, values).numpy(), encoded * scales)


@pytest.mark.parametrize("positive", [False, True])
def test_four_bits_have_the_scales_that_the_encoder_searches(positive: bool) -> None:
    values = weight(12, 80)
    searched = to_nearest(Grid(4, "integers", block=32, low=-8, high=7, positive=positive), values)
    encoded, scales = int4_blocks(values.numpy(), 32, positive)
    assert np.array_equal(searched.numpy(), (encoded * scales[..., None]).reshape(12, 96)[:, :80])
    plain = to_nearest(integers(4, block=32, scale_bytes=2), values)
    assert (searched - values).norm() < (plain - values).norm()


def test_scales_of_xnnpack_are_bfloat16() -> None:
    values = weight(12, 96)
    rounded = to_nearest(Grid(4, "integers", block=32, low=-8, high=7, positive=True, bfloat16=True), values)
    scales = torch.from_numpy(int4_blocks(values.numpy(), 32, positive=True)[1]).bfloat16().float()
    codes = rounded.reshape(12, 3, 32) / scales[..., None]
    assert torch.allclose(codes, codes.round(), atol=1e-5)


def test_a_block_of_zeros_stays_zero() -> None:
    values = torch.cat((torch.zeros(2, 32), weight(2, 32)), 1)
    for grid in (integers(4, block=32, scale_bytes=2), FOUR):
        assert (to_nearest(grid, values)[:, :32] == 0).all()
