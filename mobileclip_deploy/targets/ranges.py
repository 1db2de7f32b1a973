"""Ranges of activations: the interval of a tensor's values on real inputs, without the rarest ones."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

# Percentage of a tensor's values inside its range with 256 integers; half of the rest is cut off at either end. See
# docs/onnx.md and docs/coreml.md for the effect of other percentages on nano. With 65,536 integers nothing is cut off.
PERCENTILE = 99.99
BINS = 8192
STEPS = 255


@dataclass(frozen=True)
class Range:
    """Interval of a tensor's values, which contains 0, and the noise of rounding them to the integers 0 to `steps`.

    `snr_db` is the signal-to-noise ratio in dB; clipping counts as noise.
    """

    low: float
    high: float
    snr_db: float
    steps: int = STEPS

    @property
    def scale(self) -> np.float32:
        """Width of a step."""
        return np.float32(max(self.high - self.low, float(np.finfo(np.float16).tiny)) / self.steps)

    @property
    def zero_point(self) -> np.uint8 | np.uint16:
        """Integer that represents 0."""
        kind = np.uint8 if self.steps <= STEPS else np.uint16
        return kind(np.clip(np.rint(-self.low / self.scale), 0, self.steps))


Key = TypeVar("Key")


def ranges_of(
    computed: Callable[[], Iterable[Mapping[Key, npt.NDArray[np.floating]]]], steps: int = STEPS
) -> dict[Key, Range]:
    """Returns the range of every value over all inputs.

    Args:
        computed: yields the values of each input, by name or index; called twice, since a histogram needs its ends
            first.
        steps: largest integer that a value is rounded to.
    """
    ends: dict[Key, tuple[float, float]] = {}
    for values in computed():
        for name, value in values.items():
            low, high = ends.get(name, (0.0, 0.0))
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
    counts = {name: np.zeros(BINS, np.int64) for name in ends}
    for values in computed():
        for name, value in values.items():
            if ends[name] != (0.0, 0.0):
                counts[name] += np.histogram(value, BINS, ends[name])[0]
    return {name: _range(counts[name], *ends[name], steps) for name in ends}


def _range(counts: npt.NDArray[np.int64], low: float, high: float, steps: int) -> Range:
    total = int(counts.sum())
    if not total:
        return Range(0.0, 0.0, math.inf, steps)
    edges = np.linspace(low, high, BINS + 1)
    rest = total * (1 - PERCENTILE / 100) / 2 if steps == STEPS else 0.0
    below = np.cumsum(counts)
    first = int(np.searchsorted(below, rest, side="right"))
    last = min(int(np.searchsorted(below, total - rest, side="left")), BINS - 1)
    low, high = min(0.0, float(edges[first])), max(0.0, float(edges[last + 1]))
    centres = (edges[1:] + edges[:-1]) / 2
    cut = centres - np.clip(centres, low, high)
    noise = float((counts * cut**2).sum()) / total + ((high - low) / steps) ** 2 / 12
    signal = float((counts * centres**2).sum()) / total
    return Range(low, high, 10 * math.log10(signal / noise), steps)
