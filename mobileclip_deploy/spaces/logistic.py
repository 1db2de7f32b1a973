"""Logistic regression with one alternative or several, by Newton's method."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Doubles
from mobileclip_deploy.network.model.scores import unrounded_softmax

STEPS = 40


def fit_logistic(
    features: Sequence[Doubles],
    chosen: npt.NDArray[np.int64],
    weights: Doubles,
    start: Doubles,
    penalties: Doubles | float = 0.0,
    least_gain: float = 1e-10,
) -> Doubles:
    """Returns the coefficients [F] that make the chosen alternatives likeliest.

    The logit of an alternative is the sum of its features times the coefficients; that of "none of them" is 0. The loss
    is convex.

    Args:
        features: F arrays [n, L]. The first is -inf for an alternative that is impossible.
        chosen: index of each row's alternative [n]; L for none.
        weights: of the rows [n].
        start: first coefficients [F]. The first one never gets the other sign.
        penalties: of half the squared coefficients, [F].
        least_gain: the last step lowers the loss by less.
    """
    possible, rows = np.isfinite(features[0]), np.arange(len(chosen))
    parts, count = [np.where(possible, features[0], 0.0), *features[1:]], possible.shape[1]
    targets = [np.where(chosen < count, part[rows, np.minimum(chosen, count - 1)], 0.0) for part in parts]

    def loss(values: Doubles) -> tuple[float, Doubles]:
        combined = sum(value * part for value, part in zip(values, parts, strict=True))
        logits = np.c_[np.where(possible, combined, -np.inf), np.zeros(len(rows))]
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        right = sum(value * target for value, target in zip(values, targets, strict=True))
        penalty = float((penalties * values**2).sum()) / 2
        return float((weights * (total - right)).sum()) + penalty, unrounded_softmax(logits)[:, :-1]

    values = start
    now, chance = loss(values)
    for _ in range(STEPS):
        moments = [(part, (chance * part).sum(axis=1)) for part in parts]
        slope = [(weights * (mean - target)).sum() for (_, mean), target in zip(moments, targets, strict=True)]
        curve = [
            [(weights * ((chance * (a * b)).sum(axis=1) - mean_a * mean_b)).sum() for b, mean_b in moments]
            for a, mean_a in moments
        ]
        damped = np.array(curve) + np.diag(np.zeros(len(parts)) + penalties) + 1e-9 * np.eye(len(parts))
        step = np.linalg.solve(damped, np.array(slope) + penalties * values)
        size = 1.0
        while size > 1e-6:
            tried = values - size * step
            following, chance_there = loss(tried)
            if tried[0] * start[0] >= 0 and following <= now:
                break
            size /= 2
        else:
            break
        done = now - following < least_gain
        values, now, chance = tried, following, chance_there
        if done:
            break
    return values
