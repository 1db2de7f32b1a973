"""Interpolation of a fine-tuned checkpoint's weights with those of its original (WiSE-FT, arXiv 2109.01903)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mobileclip_deploy.base.intervals import Interval
from mobileclip_deploy.errors import CheckpointError, UsageError, listed


@dataclass(frozen=True)
class MixPoint:
    """Accuracy at one ratio, in percent: `old` on the original's data, `new` on those of the fine-tune."""

    ratio: float
    old: float
    new: float


@dataclass(frozen=True)
class MixCurve:
    """Curve of ratios on every third picture, the chosen ratio, and its paired differences from the original, in
    points, on all other pictures."""

    points: tuple[MixPoint, ...]
    ratio: float
    old: Interval
    new: Interval


def check_ratio(ratio: float) -> float:
    """Returns the share of the fine-tuned weights if it is from 0 to 1.

    Raises:
        UsageError: it is not.
    """
    if not 0 <= ratio <= 1:
        raise UsageError(f"`ratio` is {ratio:g}; give the share of the tuned weights, from 0 (original) to 1 (tuned)")
    return ratio


def mix(original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], ratio: float) -> dict[str, Tensor]:
    """Returns (1 - ratio) original + ratio tuned of every weight and statistic, in float32. Counters are the tuned
    ones.

    Args:
        original, tuned: tensors of one network, by our names.

    Raises:
        CheckpointError: their names or shapes differ.
    """
    differ = [name for name in tuned if name not in original or original[name].shape != tuned[name].shape]
    if differ := [*differ, *(name for name in original if name not in tuned)]:
        raise CheckpointError(
            f"the two checkpoints are of different networks ({listed(differ, 3)} differ); give two of one"
        )
    return {
        name: torch.lerp(original[name].float(), value.float(), ratio) if value.is_floating_point() else value
        for name, value in tuned.items()
    }
