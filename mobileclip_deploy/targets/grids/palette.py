"""One-dimensional k-means: the look-up table of a palettized weight, deterministic and without sklearn.

coremltools would call scikit-learn's k-means (an extra dependency, started from random centres, minutes for a large
tower). In one dimension the clusters are intervals of the sorted values. A Lloyd step, the cost of merging two
neighbours and the gain of a split are then differences of prefix sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Doubles

Values = npt.NDArray[Any]
Edges = npt.NDArray[np.int64]

MAX_STEPS = 60
MAX_MOVES = 300
BINS = 512
# Ratio of the largest weight to the smallest one that a value can have.
LEAST_WEIGHT = 1e4


def palette(values: Values, bits: int, *, skip_zeros: bool = False) -> tuple[Values, npt.NDArray[np.uint8]]:
    """Returns a table of 2^bits entries with a small squared error, and the entry nearest to each value.

    Lloyd's algorithm runs until it stops. The two neighbours that are cheapest to merge are then merged, and the
    cluster that gains most is split. This repeats as long as it pays. On a few hundred normal values the error is
    within some percent of the optimum. Lloyd alone misses it by 20 to 100%.

    Args:
        values: any shape, floating.
        bits: 1 to 8.
        skip_zeros: True to spend no entry on values that are exactly 0 (pruned weights store them separately).

    Returns:
        The table, ascending, of the values' dtype, and one index per value, flat.

    Raises:
        ValueError: a value is not finite, or `bits` is out of range.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if not 1 <= bits <= 8 or not np.isfinite(flat).all():
        raise ValueError(f"a palette needs 1 to 8 bits, not {bits}, and finite values")
    counted = flat[flat != 0] if skip_zeros else flat
    if not len(counted):
        counted = np.zeros(1, flat.dtype)
    points, counts = _distinct(counted) if counted.dtype == np.float16 else np.unique(counted, return_counts=True)
    table = _entries(points, counts, 2**bits).astype(flat.dtype)
    middles = (table[1:].astype(np.float64) + table[:-1].astype(np.float64)) / 2
    if flat.dtype == np.float16:  # each of the 65,536 is looked up once
        return table, _nearest(middles, np.arange(2**16, dtype=np.uint16).view(np.float16))[flat.view(np.uint16)]
    return table, _nearest(middles, flat)


def weighted_table(values: Values, weights: Values, bits: int) -> npt.NDArray[np.float16]:
    """Returns a table of 2^bits float16 entries, ascending, with a small weighted sum of squared errors.

    The search is that of `palette`.

    Args:
        values: any shape, floating and finite; rounded to float16, as the entries are.
        weights: of the same shape, not negative. Each counts at least a ten-thousandth of the largest: a value whose
            error costs nothing on some inputs may matter on others.
    """
    flat = np.ascontiguousarray(values).reshape(-1).astype(np.float16)
    largest = float(weights.max())
    # At least 1: a mass of 0 marks an empty cluster.
    mass = np.maximum(np.ascontiguousarray(weights).reshape(-1) / (largest or 1.0), 1 / LEAST_WEIGHT) * LEAST_WEIGHT
    points, counts = _distinct(flat, mass)
    return _entries(points, counts, 2**bits).astype(np.float16)


def _entries(points: Values, counts: Values, size: int) -> Doubles:
    """Returns a table with `size` entries for distinct values and their counts. With fewer values the last one is
    repeated."""
    if len(points) <= size:
        return np.concatenate([points, np.repeat(points[-1:], size - len(points))]).astype(np.float64)
    line = _Line.of(points.astype(np.float64), counts.astype(np.float64))
    return np.sort(_search(line, _start(line, counts, size)))


def _nearest(middles: Doubles, values: Values) -> npt.NDArray[np.uint8]:
    return np.searchsorted(middles, values.astype(np.float64)).astype(np.uint8)


def _distinct(values: npt.NDArray[np.float16], mass: Values | None = None) -> tuple[Values, Values]:
    """Returns the distinct values [N], ascending, and their counts, or the summed `mass` of equal values."""
    tally = np.bincount(values.view(np.uint16), weights=mass, minlength=2**16)
    bits = np.flatnonzero(tally).astype(np.uint16)
    # Not in float16: numpy 2.4.6 leaves thousands of them unsorted on CPUs with AVX-512 for float16.
    points, indices = np.unique(bits.view(np.float16).astype(np.float32), return_inverse=True)  # joins -0 and 0
    return points, np.bincount(indices, weights=tally[bits])


@dataclass(frozen=True)
class _Line:
    """Distinct values, ascending [n], with prefix sums [n + 1] of their counts and of their sums."""

    points: Doubles
    mass: Doubles
    moment: Doubles

    @classmethod
    def of(cls, points: Doubles, counts: Doubles) -> _Line:
        zero = np.zeros(1)
        return cls(points, np.concatenate([zero, counts.cumsum()]), np.concatenate([zero, (counts * points).cumsum()]))

    def between(self, edges: Edges) -> tuple[Doubles, Doubles]:
        """Returns mass and mean of the clusters between edges [k + 1]; an empty cluster has mean 0."""
        mass, moment = self.mass[edges], self.moment[edges]
        mass = mass[1:] - mass[:-1]
        return mass, (moment[1:] - moment[:-1]) / np.maximum(mass, 1)


def _start(line: _Line, counts: npt.NDArray[Any], size: int) -> Edges:
    """Returns edges as dense as the cube root of the values' density: optimal for many entries (Panter and Dite,
    1951)."""
    histogram, borders = np.histogram(line.points, bins=BINS, weights=counts)
    density = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    inner = np.interp(np.arange(1, size) / size * density[-1], density, borders)
    return np.concatenate([[0], np.searchsorted(line.points, inner), [len(line.points)]]).astype(np.int64)


def _search(line: _Line, edges: Edges) -> Doubles:
    """Returns the centres [k]: runs Lloyd, then moves, each followed by Lloyd, while they pay."""
    edges = _lloyd(line, edges)
    mass, means = line.between(edges)
    explained = float((mass * means**2).sum())
    for _ in range(MAX_MOVES):
        tried = _lloyd(line, _move(line, edges, mass, means))
        tried_mass, tried_means = line.between(tried)
        now = float((tried_mass * tried_means**2).sum())
        if now <= explained * (1 + 1e-9):
            break
        edges, mass, means, explained = tried, tried_mass, tried_means, now
    return means[mass > 0] if (mass > 0).all() else np.where(mass > 0, means, means[mass > 0][0])


def _lloyd(line: _Line, edges: Edges) -> Edges:
    """Moves edges to the middles between the means of non-empty clusters, until nothing changes."""
    for _ in range(MAX_STEPS):
        mass, means = line.between(edges)
        if not mass.all():
            return edges
        moved = edges.copy()
        moved[1:-1] = np.searchsorted(line.points, (means[1:] + means[:-1]) / 2)
        if np.array_equal(moved, edges):
            break
        edges = moved
    return edges


def _move(line: _Line, edges: Edges, mass: Doubles, means: Doubles) -> Edges:
    """Merges the two neighbours with the smallest loss, and splits the cluster with the largest gain at its mean."""
    total = mass[1:] + mass[:-1]
    loss = mass[1:] * mass[:-1] / np.maximum(total, 1) * (means[1:] - means[:-1]) ** 2
    cuts = np.clip(np.searchsorted(line.points, means), edges[:-1], edges[1:])
    left = line.mass[cuts] - line.mass[edges[:-1]]
    moment = line.moment[cuts] - line.moment[edges[:-1]]
    right = mass - left
    apart = moment / np.maximum(left, 1) - (mass * means - moment) / np.maximum(right, 1)
    gain = np.where((left > 0) & (right > 0), left * right / np.maximum(mass, 1) * apart**2, 0.0)
    merged = int(loss.argmin())
    gain[merged : merged + 2] = 0
    return np.sort(np.append(np.delete(edges, merged + 1), cuts[int(gain.argmax())]))
