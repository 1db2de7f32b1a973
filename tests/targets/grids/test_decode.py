"""Stored numbers restored: integers, tables and halves of bytes, and the nearest number that a file can hold."""

import numpy as np
import pytest

from mobileclip_deploy.targets.grids.decode import (
    Affine,
    Tables,
    as_float,
    on_grid,
    reshaped,
    spread,
    turned,
    unpack_int4,
)
from mobileclip_deploy.targets.grids.encode import pack_int4

NUMBERS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32) * 3


@pytest.mark.parametrize("offset", [0, 8])
def test_unpacking_undoes_packing(offset: int) -> None:
    values = np.arange(-8, 8, dtype=np.int8).reshape(2, 8)
    assert np.array_equal(unpack_int4(pack_int4(values, offset), offset), values)


@pytest.mark.parametrize(
    "grid",
    [
        Affine(np.array([[0.5], [1], [2], [0.1]], np.float32), 4),
        Affine(np.full((1, 1), 0.25, np.float32), 4, zero=np.array([[3]], np.uint8), signed=False),
        Affine(np.array([[-0.5]], np.float32), 4, base=1.5),
        Affine(np.full((4, 6), 0.3, np.float32), 4, dtype=np.float16),
    ],
)
def test_no_integer_restores_to_a_nearer_number(grid: Affine) -> None:
    every = np.arange(-8, 8) if grid.signed else np.arange(16)
    points = np.stack([grid.restored(np.full(NUMBERS.shape, number)) for number in every])
    wanted = np.abs(points - NUMBERS).min(axis=0)
    assert np.allclose(np.abs(grid.nearest(NUMBERS) - NUMBERS), wanted, atol=1e-6)


def test_a_block_of_zeros_without_a_scale_stays_zeros() -> None:
    assert not Affine(np.zeros((4, 1), np.float32), 8).nearest(NUMBERS).any()


def test_each_group_has_a_table_of_its_own() -> None:
    tables = Tables(np.array([[[3, 0, 1, 2]], [[13, 10, 11, 12]]], np.float16))  # rows 0 and 1, rows 2 and 3
    weight = on_grid("w", tables, np.array([[0, 1], [2, 3]] * 2, np.uint8))
    assert (weight.bits, weight.kind) == (2, "table")
    assert weight.values.tolist() == [[3, 0], [1, 2], [13, 10], [11, 12]]
    assert weight.nearest(np.array([[1.4, 9]] * 4, np.float32)).tolist() == [[1, 3], [1, 3], [10, 10], [10, 10]]


def test_the_last_block_may_be_shorter() -> None:
    assert spread(np.array([[1, 2], [3, 4]]), (2, 3), 2).tolist() == [[1, 1, 2], [3, 3, 4]]
    assert spread(np.array([[1], [2]]), (2, 3)).tolist() == [[1], [2]]


def test_a_weight_is_turned_and_reshaped_with_its_grid() -> None:
    stored = on_grid("w", Affine(np.array([[1], [10], [100], [1000]], np.float32), 8), np.ones((4, 6), np.int8))
    other = reshaped(turned(stored, 1, 0), 2, 3, 4)
    assert other.values.shape == (2, 3, 4)
    assert other.values[0, 0].tolist() == [1, 10, 100, 1000]
    given = np.array([1.2, 12, 149, 1501], np.float32) + np.zeros((2, 3, 4), np.float32)
    assert other.nearest(given)[1, 2].tolist() == [1, 10, 100, 2000]


def test_a_weight_in_float32_is_the_files_own_bytes_and_no_copy() -> None:
    whole = as_float("w", NUMBERS)
    assert np.shares_memory(whole.values, NUMBERS)
    assert np.array_equal(whole.nearest(NUMBERS), NUMBERS)
    half = as_float("w", NUMBERS.astype(np.float16))
    assert half.values.dtype == np.float32
    assert np.array_equal(half.nearest(NUMBERS), half.values)
