"""Stored tensors of a file as floats, and the comparison of each of their elements with a checkpoint's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Literal

import numpy as np

from mobileclip_deploy.base.files.arrays import Array, Doubles, Floats
from mobileclip_deploy.targets.foreign_file import StoredConstant

EXACT, SUMS = 1e-5, 2e-6
"""Differences of stored floats that are rounding: of an element's size, and of the largest one's, for folded sums."""
HALF, BRAIN, TINY = 2.0**-11, 2.0**-8, 2.0**-23
"""Roundings of float16 and bfloat16, and float16's smallest step: converters lift smaller elements to 1e-7."""
STEPS, LEARNED, FAR = 0.55, 1.05, 16.0
"""Steps of a grid from a weight to its stored one: the nearest, either neighbour (AdaRound), and the most after weights
that make up for each other's errors (GPTQ)."""
SPREAD = 0.5
"""Least share of rows and of columns with another rounding: a fault changes few."""
TABLE = 4
"""Least number of weights for each value that makes the values a table's."""
SOME, ROWS = 1 << 16, 32
"""Elements and rows by which a table of values and a grid are recognized."""

State = Literal["exact", "otherwise", "different", "unknown"]
"""exact: each element is the checkpoint's, rounded to the nearest. otherwise: rounded in another way. unknown: integers
without a scale."""


def key_of(values: Array) -> tuple[int, ...]:
    """Returns what shapes have in common in every order of axes."""
    return tuple(sorted(size for size in values.shape if size != 1))


@dataclass(frozen=True, eq=False)
class Stored:
    """A stored tensor without axes of one element.

    Attributes:
        index: of the constant in its file.
        raw: as stored; `values`: dequantized.
        scale: of integers, of the same shape; None for floats, or if unknown.
        rounding: share of its size to which a float is rounded.
    """

    index: int
    raw: Array
    values: Floats
    scale: Array | None
    rounding: float

    @classmethod
    def of(cls, index: int, constant: StoredConstant) -> Stored:
        """Dequantizes a constant."""
        raw, scale = constant.values, constant.scale
        values, rounding = raw.astype(np.float32, copy=False), 0.0
        if scale is not None:
            values = (values - np.asarray(constant.zero, np.float32)) * scale.astype(np.float32)
            scale = np.broadcast_to(scale, raw.shape).squeeze()
        elif raw.dtype.kind == "f":
            rounding = HALF if raw.dtype == np.float16 else _rounding(values)
        return cls(index, raw.squeeze(), values.squeeze(), scale, rounding)

    @property
    def known(self) -> bool:
        """True unless the scale of integers is unknown."""
        return self.raw.dtype.kind == "f" or self.scale is not None

    def orders(self, shape: tuple[int, ...]) -> Iterator[Stored]:
        """Yields the tensor in each order of axes that gives a shape."""
        for order in permutations(range(self.raw.ndim)):
            if tuple(self.raw.shape[axis] for axis in order) == shape:
                scale = None if self.scale is None else self.scale.transpose(order)
                yield replace(self, raw=self.raw.transpose(order), values=self.values.transpose(order), scale=scale)

    @cached_property
    def steps(self) -> Array | None:
        """Steps between representable values at each element. None for floats on no grid of 8 or 4 bits."""
        return np.abs(self.scale) if self.scale is not None else _steps(self.values)

    def wrong(self, expected: Floats) -> Array:
        """Returns the elements that are not the expected ones in the precision of the tensor."""
        error, size = np.abs(self.values - expected), np.abs(expected)
        if self.scale is not None:
            return self._off_grid(error, expected)
        bound = (1.1 * self.rounding + EXACT) * size + (TINY if self.rounding else 0.0)
        wrong = error > bound + SUMS * size.max(initial=0.0)
        return self._off_grid(error, expected) if wrong.any() and self.steps is not None else wrong

    def _off_grid(self, error: Floats, expected: Floats) -> Array:
        """Returns the elements farther than the nearest step, except at the grid's ends: a range may be clipped."""
        assert self.steps is not None
        wrong: Array = error > STEPS * self.steps + HALF * np.abs(expected)
        if wrong.any() and self.scale is not None and self.raw.dtype.itemsize < 4:
            upwards = (expected > self.values) == (self.scale > 0)
            wrong &= self.raw != np.where(upwards, self.raw.max(), self.raw.min())
        return wrong

    def nearest(self, expected: Floats) -> Floats:
        """Rounds elements to the nearest representable values."""
        assert self.steps is not None
        steps = np.where(self.steps == 0, 1, self.steps)
        return self.values + np.rint((expected - self.values) / steps).astype(np.float32) * steps

    def state(self, expected: Floats, is_table: bool) -> State:
        """Compares all elements."""
        if not self.known:
            return "unknown"
        wrong = self.wrong(expected)
        if not wrong.any():
            return "exact"
        if self.steps is None or wrong.ndim < 2:
            return "different"
        rows = wrong.reshape(len(wrong), -1)
        most = float((np.abs(self.values - expected)[wrong] / np.maximum(self.steps[wrong], 1e-30)).max())
        everywhere = min(rows.any(axis=1).mean(), rows.any(axis=0).mean()) >= SPREAD
        return "otherwise" if everywhere and most <= (LEARNED if is_table else FAR) else "different"


def _rounding(values: Floats) -> float:
    """Returns the share of its size to which each element was rounded, as float16 or bfloat16; 0 if it was not."""
    some = values.ravel()[:SOME]
    if np.unique(some).size <= some.size // TABLE:  # short numbers, such as 1
        return 0.0
    bits = int(np.bitwise_or.reduce(np.ascontiguousarray(values, np.float32).view(np.uint32), axis=None))
    return BRAIN if not bits & 0xFFFF else HALF if not bits & 0x1FFF else 0.0


def _steps(stored: Floats) -> Array | None:
    """Returns the larger distance of each element to its neighbours in a table of values, or the step of its row or
    column if that is a grid. None if neither."""
    if stored.ndim < 2:
        return None
    some = stored.ravel()[:SOME]
    if np.unique(some).size <= some.size // TABLE:
        levels, indices = np.unique(stored, return_inverse=True)
        gaps = np.append(np.diff(levels), 0)
        return np.maximum(gaps, np.roll(gaps, 1))[indices].reshape(stored.shape)
    for turned in (False, True)[: 1 + (stored.ndim == 2)]:
        rows = stored.T if turned else stored.reshape(len(stored), -1)
        low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
        largest = np.maximum(high, -low)
        for least, step in (
            (0 * low, largest / 127),
            (0 * low, largest / 7),
            (low, (high - low) / 255),
            (low, (high - low) / 15),
        ):
            steps = (rows[:ROWS].astype(np.float64) - least[:ROWS]) / np.maximum(step[:ROWS], 1e-30)
            if np.mean(np.abs(steps - np.rint(steps)) < 0.1) > 0.9:
                every = np.broadcast_to(step, rows.shape)
                return every.T if turned else every.reshape(stored.shape)
    return None


def correlated(value: Floats, stored: Array, most: int) -> float:
    """Returns the relative distance of integers up to a scale and an offset for each output."""
    rows = np.linspace(0, len(value) - 1, min(ROWS, len(value))).astype(int)
    a, b = (_centred(each[rows].reshape(len(rows), -1)[:, :most]) for each in (value, stored))
    correlation = float(np.median((a * b).sum(axis=1)))
    return float(np.sqrt(max(0.0, 1 - correlation**2))) if correlation > 0 else 2.0


def _centred(rows: Array) -> Doubles:
    rows = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
