"""Weights as integers: near their values, and their bits where the runtime reads them."""

import numpy as np
import pytest

from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, pack_int4


@pytest.fixture
def values() -> np.ndarray:
    """Rows of very different size, one of them of zeros."""
    rows = np.random.default_rng(0).standard_normal((6, 70)).astype(np.float32)
    return rows * np.array([1e-6, 1, 0, 1e3, 5, 0.1], np.float32)[:, None]


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_is_within_half_a_step_of_every_value(values: np.ndarray, axis: int) -> None:
    integers, scales = int8_channels(values, axis)
    assert integers.dtype == np.int8
    assert scales.shape == ((6, 1) if axis == 0 else (1, 70))
    assert np.abs(integers).max() <= 127
    assert (np.abs(integers * scales - values) <= scales / 2 * 1.0001).all()


def test_a_channel_of_zeros_stays_zeros(values: np.ndarray) -> None:
    integers, scales = int8_channels(values, 0)
    assert not (integers * scales)[2].any()


def test_int4_uses_all_sixteen_values_and_pads_the_last_block_with_zeros(values: np.ndarray) -> None:
    integers, scales = int4_blocks(values, 32)
    assert integers.shape == (6, 3, 32)
    assert (integers.min(), integers.max()) == (-8, 7)
    assert not integers[:, 2, 6:].any()
    assert np.array_equal(scales, scales.astype(np.float16))


def test_an_outlier_costs_int4_less_than_where_it_just_fits() -> None:
    rows = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    rows[0, 3] = 6
    integers, scales = int4_blocks(rows, 32)
    plain = np.clip(np.rint(rows / (6 / 7)), -8, 7) * (6 / 7)
    assert ((integers[:, 0] * scales - rows) ** 2).sum() < ((plain - rows) ** 2).sum()


def test_four_bits_lie_two_a_byte_the_first_one_lower() -> None:
    assert pack_int4(np.array([[-8, 7, 0, -1]], np.int8), 8).tolist() == [[0xF0, 0x78]]
    assert pack_int4(np.array([[-8, 7, 0, -1]], np.int8), 0).tolist() == [[0x78, 0xF0]]
