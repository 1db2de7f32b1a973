"""Scores of all rows of an index for some queries, exact and in the same order on every machine, and the best of them.

Integers are summed as integers: a query is rounded to int8 by a scale of its own, so that scores, ties too, are the
same in every language that reads the file (docs/index_format.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.search.storage import Store, signs
from mobileclip_deploy.spaces.int8 import INT8_MOST, integers_of

CHUNK = 1 << 15
"""Rows at a time: their scores stay in the processor's cache until the best are taken."""
CASTED = 256
"""Rows that numpy turns into floats at a time, as its products know no integers: they stay in the first cache."""
Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Query:
    """A query's unit vector float32 [D], and its int8 integers [D] with the scale that gives it back."""

    vector: Floats
    integers: npt.NDArray[np.int8]
    scale: float

    @classmethod
    def of(cls, vector: Floats) -> Query:
        """Rounded by the scale that lets its largest component be 127."""
        scale = float(np.abs(vector).max()) / INT8_MOST or 1.0
        return cls(vector, integers_of(vector[None], scale)[0][0], scale)

    def factor(self, kind: str, store: Store) -> float:
        """What turns the sums that `scored` gives for this kind of array into cosines; an estimate for sign bits."""
        if kind == "int8":
            return self.scale * store.scale
        return self.scale / float(np.sqrt(store.dimension)) if kind == "bits" else 1.0


class Best:
    """The `top` rows with the largest scores so far; of equal ones the lower row comes first."""

    def __init__(self, top: int) -> None:
        self._top = top
        self.rows = np.zeros(0, np.int64)
        self.scores: Scores = np.zeros(0, np.float64)

    def add(self, start: int, scores: Scores) -> None:
        """Take the best of the rows `start`, `start + 1`, ... which all come after those before."""
        full = len(self.rows) == self._top
        better = np.flatnonzero(scores > self.scores[-1] if full else scores > -np.inf)
        if not better.size:
            return
        rows, values = np.concatenate([self.rows, better + start]), np.concatenate([self.scores, scores[better]])
        if len(rows) > 4 * self._top:  # sorting them all would take longer than the scores
            least = np.partition(values, -self._top)[-self._top]
            kept = values >= least
            rows, values = rows[kept], values[kept]
        order = np.lexsort((rows, -values))[: self._top]
        self.rows, self.scores = rows[order], values[order]


def scored(kind: str, array: npt.NDArray[Any], query: Query, store: Store) -> Iterator[tuple[int, Scores]]:
    """Sums of products of each row with the query, a chunk at a time: first row and scores [n].

    Args:
        kind: the array's name in `Store.arrays`.
        array: int8, float16 or float32 [N, D], or bits uint8 [N, ceil(D / 8)].
    """
    product = _integer_products() if kind == "int8" else None
    for start in range(0, len(array), CHUNK):
        part = array[start : start + CHUNK]
        if product is not None:
            yield start, product(query.integers, part)
        else:
            yield start, _products(kind, part, query, store)


def rescored(array: npt.NDArray[np.int8], rows: npt.NDArray[np.int64], query: Query) -> Scores:
    """Integer sums of chosen rows, as float64 [k]."""
    return (array[rows].astype(np.int32) @ query.integers.astype(np.int32)).astype(np.float64)


def _products(kind: str, part: npt.NDArray[Any], query: Query, store: Store) -> Scores:
    """By numpy, in pieces. Sums of integers are below 2^24, which float32 holds exactly, up to 1,040 numbers a vector;
    float64 serves beyond."""
    whole = kind in ("int8", "bits")
    wide: type[np.floating[Any]] = np.float64 if whole and store.dimension * INT8_MOST**2 >= 1 << 24 else np.float32
    against = (query.integers if whole else query.vector).astype(wide)
    found: Scores = np.empty(len(part), wide)
    for start in range(0, len(part), CASTED):
        piece = part[start : start + CASTED]
        values = signs(piece, store.dimension) if kind == "bits" else piece
        np.dot(values.astype(wide), against, out=found[start : start + len(piece)])
    return found


def _integer_products() -> Any:
    """NumKong's products of int8, where it is installed: three to four times as fast as numpy's, with the same sums."""
    try:
        import numkong
    except ImportError:
        return None
    return lambda query, part: np.asarray(numkong.dot(query[None], part)).reshape(-1)
