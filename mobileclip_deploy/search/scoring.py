"""Exact scores of all rows of an index for a query, and selection of the best. The order is the same on every machine.

Integers are summed as integers: a query is rounded to int8 by a scale of its own. Scores, ties too, are then the same
in every language that reads the file (docs/index_format.md).
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
"""Rows at a time: their scores stay in the processor's cache until the best are selected."""
CASTED = 256
"""Rows that numpy converts to floats at a time, since its products of integers are slow: they stay in the first
cache."""
Scores = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Query:
    """A query: unit vector float32 [D], and its int8 integers [D] with their scale."""

    vector: Floats
    integers: npt.NDArray[np.int8]
    scale: float

    @classmethod
    def of(cls, vector: Floats) -> Query:
        """Returns the query, rounded by the scale that makes its largest component 127."""
        scale = float(np.abs(vector).max()) / INT8_MOST or 1.0
        return cls(vector, integers_of(vector[None], scale)[0][0], scale)

    def factor(self, kind: str, store: Store) -> float:
        """Returns the factor that turns the sums of `scored` for this kind of array into cosines. For sign bits it is
        an estimate."""
        if kind == "int8":
            return self.scale * store.scale
        return self.scale / float(np.sqrt(store.dimension)) if kind == "bits" else 1.0


class TopRows:
    """The `top` rows with the largest scores so far; of equal ones the lower row comes first."""

    def __init__(self, top: int) -> None:
        self._top = top
        self.rows = np.zeros(0, np.int64)
        self.scores: Scores = np.zeros(0, np.float64)

    def add(self, start: int, scores: Scores) -> None:
        """Adds the best of the rows `start`, `start + 1`, ..., which all come after earlier ones."""
        full = len(self.rows) == self._top
        better = np.flatnonzero(scores > self.scores[-1] if full else scores > -np.inf)
        if not better.size:
            return
        rows, values = np.concatenate([self.rows, better + start]), np.concatenate([self.scores, scores[better]])
        if len(rows) > 4 * self._top:  # sorting them all would take longer than the scores
            least = np.partition(values, -self._top)[-self._top]
            enough = values >= least
            rows, values = rows[enough], values[enough]
        order = np.lexsort((rows, -values))[: self._top]
        self.rows, self.scores = rows[order], values[order]


def scored(kind: str, array: npt.NDArray[Any], query: Query, store: Store) -> Iterator[tuple[int, Scores]]:
    """Yields the first row and the scores [n] of each chunk: sums of products of each row with the query.

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
    """Returns the integer sums of chosen rows, as float64 [k]."""
    return (array[rows].astype(np.int32) @ query.integers.astype(np.int32)).astype(np.float64)


def _products(kind: str, part: npt.NDArray[Any], query: Query, store: Store) -> Scores:
    """Returns the sums, computed by numpy in pieces. Integer sums of up to 1,040 elements are below 2^24, which float32
    represents exactly; longer vectors use float64."""
    whole = kind in ("int8", "bits")
    wide: type[np.floating[Any]] = np.float64 if whole and store.dimension * INT8_MOST**2 >= 1 << 24 else np.float32
    against = (query.integers if whole else query.vector).astype(wide)
    sums: Scores = np.empty(len(part), wide)
    for start in range(0, len(part), CASTED):
        piece = part[start : start + CASTED]
        values = signs(piece, store.dimension) if kind == "bits" else piece
        np.dot(values.astype(wide), against, out=sums[start : start + len(piece)])
    return sums


def _integer_products() -> Any:
    """Returns NumKong's int8 product, three to four times as fast as numpy's with the same sums; None if it is not
    installed."""
    try:
        import numkong
    except ImportError:
        return None
    return lambda query, part: np.asarray(numkong.dot(query[None], part)).reshape(-1)
