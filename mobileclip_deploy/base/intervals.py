"""Figures in percent with bootstrap intervals."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

RESAMPLES, SEED = 1000, 0


class Interval(BaseModel, frozen=True):
    """A figure in percent with its 95% bootstrap interval over the examples (1,000 resamples, seed 0); the exact
    interval for a share of 0 or 1."""

    value: float
    low: float
    high: float


def mean_interval(values: npt.NDArray[np.float64]) -> Interval:
    """Returns the mean of shares [N], 0 to 1 each, in percent, with its bootstrap interval."""
    low, high = resampled(lambda drawn: float(values[drawn].mean()), len(values))
    return Interval(value=100 * float(values.mean()), low=low, high=high)


def resampled(statistic: Callable[[npt.NDArray[np.int64]], float], examples: int) -> tuple[float, float]:
    """Returns the 95% bootstrap interval, in percent, of a statistic of the drawn examples' indices [N].

    A resample may contain no relevant example; statistics that are not finite are left out.
    """
    generator = np.random.default_rng(SEED)
    statistics = [statistic(generator.integers(0, examples, examples)) for _ in range(RESAMPLES)]
    low, high = np.percentile([value for value in statistics if np.isfinite(value)], [2.5, 97.5])
    return 100 * float(low), 100 * float(high)
