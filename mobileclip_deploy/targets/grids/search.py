"""The scale of a block of integers, searched: of several, the one whose rounding errs least.

An outlier that is cut off costs its block less than a coarser step for all other numbers. Trials are shares of the
scale at which the block's extreme just fits. What wrote files, and what trained for them, each tried its own: a file
written again has to have the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

# Core AI's. Without them nano lost 0.5 points of recall@1 at w4p and 1.5 at w4; with them, none and 0.7.
CUT = tuple(1 - 0.025 * step for step in range(13))
# ONNX's and LiteRT's. The extreme stands at -8: above 1 the range ends beyond it. At 8/7 a block that `recover`
# trained, whose extreme is 7 steps, finds its own scale.
REACHED = tuple(np.append(np.linspace(1.15, 0.6, 23), 8 / 7).astype(np.float32))
# Where training starts for symmetric integers.
TRAINED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
# Learned rounding's.
LEARNED = tuple(1.075 - 0.025 * step for step in range(20))


def cheapest(trials: Iterable[tuple[Tensor, ...]], missed: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    """For each block the trial that misses least; of equal ones the first.

    Args:
        trials: values per block, one or several tensors of one shape.
        missed: what a trial costs each block, in that shape.
    """
    best: tuple[Tensor, ...] = ()
    least = torch.tensor(torch.inf)
    for trial in trials:
        cost = missed(*trial)
        better = cost < least
        best = tuple(torch.where(better, new, old) for new, old in zip(trial, best or trial, strict=True))
        least = torch.where(better, cost, least)
    return best


def nonzero(scale: Tensor) -> Tensor:
    """Scales to divide by: 1 where one is 0."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)
