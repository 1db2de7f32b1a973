"""A gate on whole embeddings as a tolerance of their single values, for runtimes that compare value by value."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["value_tolerance"]

# The largest of some hundred evenly spread errors is three to four times their root mean square; the rest is margin.
PEAK = 6


def value_tolerance(expected: npt.NDArray[np.float32], metric: str, bound: float) -> float:
    """By how much one value may differ where an embedding is just within its gate and its error spread evenly.

    Args:
        expected: embeddings [N, D].
        metric: `relative`, or `cosine` (as a relative deviation: sqrt(2 (1 - cosine))).
        bound: of the gate.
    """
    relative = math.sqrt(2 * max(0.0, 1 - bound)) if metric == "cosine" else bound
    return PEAK * relative * float(np.sqrt((expected.astype(np.float64) ** 2).mean(axis=1)).max())
