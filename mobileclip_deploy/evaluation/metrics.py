"""Accuracy from similarities: top-k, recall@k and mean rank, in percent, with bootstrap intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = ["Interval", "percentage", "ranks_of"]

RESAMPLES = 1000
SEED = 0


class Interval(BaseModel):
    """A figure in percent with its 95% bootstrap interval over the examples (1,000 resamples, seed 0)."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


def ranks_of(similarity: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rank (0 is best) of the right candidate in each row of [N, M]; ties and NaN count against it."""
    right = similarity[np.arange(len(truth)), truth]
    return (~(similarity < right[:, None])).sum(axis=1) - 1


def percentage(hits: npt.NDArray[np.bool_]) -> Interval:
    """Share of hits [N] in percent."""
    draws = np.random.default_rng(SEED).integers(0, len(hits), (RESAMPLES, len(hits)))
    low, high = np.percentile(hits[draws].mean(axis=1), [2.5, 97.5])
    return Interval(value=100 * float(hits.mean()), low=100 * float(low), high=100 * float(high))
