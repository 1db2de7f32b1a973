"""The look-up tables of palettized weights: near the optimum, the nearest entry each, the same each time."""

import numpy as np
import pytest

from mobileclip_deploy.targets.grids.palette import palette


def error(values: np.ndarray, bits: int) -> float:
    table, indices = palette(values, bits)
    return float(((values - table[indices]) ** 2).sum())


def optimum(values: np.ndarray, entries: int) -> float:
    """The least squared error of any table, by dynamic programming over the sorted values."""
    points = np.sort(values.astype(np.float64))
    first, second = (np.concatenate([[0], np.cumsum(points**power)]) for power in (1, 2))
    best = np.concatenate([[0.0], np.full(len(points), np.inf)])
    for _ in range(entries):
        following = np.full_like(best, np.inf)
        for end in range(1, len(points) + 1):
            start = np.arange(end)
            inside = second[end] - second[start] - (first[end] - first[start]) ** 2 / (end - start)
            following[end] = (best[:end] + inside).min()
        best = following
    return float(best[-1])


@pytest.mark.parametrize("draw", ["normal", "laplace", "uniform"])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_error_is_near_the_least_possible(draw: str, bits: int) -> None:
    values = getattr(np.random.default_rng(1), draw)(size=400).astype(np.float32)
    assert error(values, bits) <= 1.1 * optimum(values, 2**bits)


def test_outliers_get_entries_of_their_own() -> None:
    values = np.append(np.random.default_rng(2).normal(size=1000), [40.0, -25.0]).astype(np.float32)
    table, indices = palette(values, 4)
    assert np.allclose(table[indices[-2:]], [40, -25], rtol=1e-3)


def test_every_value_has_its_nearest_entry() -> None:
    values = np.random.default_rng(3).normal(size=(8, 50)).astype(np.float16)
    table, indices = palette(values, 3)
    distance = np.abs(values.reshape(-1, 1).astype(np.float64) - table.astype(np.float64))
    assert np.array_equal(distance[np.arange(400), indices], distance.min(axis=1))
    assert table.dtype == np.float16
    assert (np.diff(table) >= 0).all()


def test_few_distinct_values_are_kept_exactly() -> None:
    values = np.array([[0.5, -1, 3], [3, 0.5, -1]], np.float16)
    table, indices = palette(values, 2)
    assert np.array_equal(table[indices], values.reshape(-1))
    assert len(table) == 4


def test_few_distinct_values_are_kept_exactly_of_a_large_float16_weight() -> None:
    """numpy sorts thousands of float16 numbers wrongly on some CPUs."""
    chance = np.random.default_rng(0)
    wanted = np.unique(chance.normal(size=16).astype(np.float16))
    values = chance.choice(wanted, 100_000)
    table, indices = palette(values, 4)
    assert np.array_equal(table, wanted)
    assert np.array_equal(table[indices], values)


def test_zeros_take_no_entry_where_they_are_stored_apart() -> None:
    kept = np.random.default_rng(4).normal(size=500).astype(np.float32)
    with_zeros = np.concatenate([kept, np.zeros(500, np.float32)])
    assert np.array_equal(palette(with_zeros, 3, skip_zeros=True)[0], palette(kept, 3)[0])
    assert np.array_equal(palette(np.zeros(4, np.float32), 1, skip_zeros=True)[0], [0, 0])


def test_the_same_values_give_the_same_table() -> None:
    values = np.random.default_rng(5).normal(size=5000).astype(np.float16)
    (table, indices), (again, others) = palette(values, 6), palette(values.copy(), 6)
    assert np.array_equal(table, again)
    assert np.array_equal(indices, others)


@pytest.mark.parametrize(("values", "bits"), [([1.0, np.nan], 4), ([np.inf, 0.0], 4), ([1.0], 0), ([1.0], 9)])
def test_values_that_are_not_finite_and_sizes_that_do_not_exist_are_refused(values: list[float], bits: int) -> None:
    with pytest.raises(ValueError, match="palette"):
        palette(np.array(values, np.float32), bits)
