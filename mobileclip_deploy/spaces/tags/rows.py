"""Rows of a linear head: from the labels' texts, from pictures, or from both, trained by a logistic loss.

A prior pulls the trained rows to the texts, as in CLAP (arXiv 2312.12730) and LP++ (arXiv 2404.02285). Pictures alone
give the discriminant of arXiv 2402.04087, whose covariance is shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Doubles
from mobileclip_deploy.network.model.scores import unrounded_softmax

Indices = npt.NDArray[np.int64]
LEAST_PICTURES = 2
"""Pictures below which a label keeps its text."""
SHRINK = 0.9
"""Share of the covariance that is replaced by its mean variance: few pictures say little of directions."""
STEPS = 50
BIAS_PENALTY = 1e-3
"""Penalty of a bias, in logits: small, it keeps biases finite."""
NONE_BIAS = 10.0
"""First bias of "none of these", in logits: half of the range of a trained network's."""


@dataclass(frozen=True)
class LabelSamples:
    """Embeddings to learn labels from, all of length 1.

    Attributes:
        texts: of the labels' prompts [L, D]; None to learn from pictures alone.
        pictures: examples [N, D].
        labels: index of each example's label [N].
        background: pictures that no label fits [K, D]; K may be 0.
        scale: the model's logit scale.
        count: number of labels L.
        names: of prompts of other things [V, D], in place of a background: they say how near a wrong text comes.
    """

    texts: Doubles | None
    pictures: Doubles
    labels: Indices
    background: Doubles
    scale: float
    count: int
    names: Doubles | None = None

    def some(self, pictures: Indices, background: Indices) -> LabelSamples:
        """Returns samples with these pictures only."""
        background_rows = self.background[background]
        return replace(self, pictures=self.pictures[pictures], labels=self.labels[pictures], background=background_rows)


@dataclass(frozen=True)
class Method:
    """A way to make rows: the prior, and the penalty of a distance from it; None leaves the prior as it is.

    `pictures`: weight of the pictures' discriminant next to the texts.
    """

    name: str
    start: Literal["texts", "both", "pictures"]
    pictures: float = 0.0
    penalty: float | None = None


TEXTS = Method("texts", "texts")
METHODS = (
    TEXTS,
    *(Method(f"texts, trained at {penalty}", "texts", penalty=penalty) for penalty in (1, 4, 16)),
    *(Method(f"texts and {weight} x pictures", "both", weight) for weight in (1, 2, 4)),
)
WITHOUT_TEXTS = (
    Method("pictures", "pictures", 1.0),
    *(Method(f"pictures, trained at {penalty}", "pictures", 1.0, penalty) for penalty in (1, 3, 10)),
)


@dataclass(frozen=True)
class HeadRows:
    """Weights [L + 1, D] and biases [L + 1] of logits; the last row is "none of these"."""

    weights: Doubles
    biases: Doubles

    def odds(self, pictures: Doubles) -> Doubles:
        """Returns the logit of each label minus that of "none of these" [N, L]."""
        weights, biases = self.weights[:-1] - self.weights[-1], self.biases[:-1] - self.biases[-1]
        return np.asarray(pictures @ weights.T + biases)


def make_rows(method: Method, samples: LabelSamples) -> HeadRows:
    """Returns the rows that a method learns from the samples."""
    counts = np.bincount(samples.labels, minlength=samples.count)
    start = _start(method, samples, counts)
    start = np.concatenate([start, np.zeros((1, start.shape[1]))])
    if method.penalty is None:
        return HeadRows(samples.scale * start, np.zeros(len(start)))
    free = counts >= (LEAST_PICTURES if samples.texts is not None else 1)
    return _trained(start, samples, method.penalty, np.append(free, len(samples.background) > 0))


def _start(method: Method, samples: LabelSamples, counts: Indices) -> Doubles:
    if samples.texts is not None and method.start == "texts":
        return samples.texts
    discriminant = _discriminant(samples, counts)
    size = np.linalg.norm(discriminant) or 1.0
    if samples.texts is None:
        return discriminant * (np.sqrt(samples.count) / size)
    spread = np.linalg.norm(samples.texts - samples.texts.mean(0))
    return samples.texts + discriminant * (method.pictures * spread / size)


def _discriminant(samples: LabelSamples, counts: Indices) -> Doubles:
    """Returns the linear discriminant's rows [L, D]; 0 for labels that keep their texts."""
    dimension = samples.pictures.shape[1]
    sums = np.zeros((samples.count, dimension))
    np.add.at(sums, samples.labels, samples.pictures)
    means = sums / np.maximum(counts, 1)[:, None]
    apart = samples.pictures - means[samples.labels]
    covariance = apart.T @ apart / max(len(apart), 1)
    variance = np.trace(covariance) / dimension
    covariance = (1 - SHRINK) * covariance + (SHRINK * variance + 1e-9) * np.eye(dimension)
    some = counts >= (LEAST_PICTURES if samples.texts is not None else 1)
    centred = np.where(some[:, None], means - means[some].mean(0), 0.0) if some.any() else means
    return np.asarray(np.linalg.solve(covariance, centred.T).T)


def _trained(start: Doubles, samples: LabelSamples, penalty: float, free: npt.NDArray[np.bool_]) -> HeadRows:
    """Minimises the logistic loss plus `penalty` / 2 times the squared distance from `start`, by Nesterov's method.

    Labels and background weigh one half each. Rows that are not `free` stay.
    """
    has_background = len(samples.background) > 0
    scale, none = samples.scale, samples.count
    inputs = np.concatenate([samples.pictures, samples.background])
    inputs = np.c_[inputs, np.ones(len(inputs))]
    labels = np.concatenate([samples.labels, np.full(len(samples.background), none)])
    halves = 0.5 if has_background else 1.0
    shares = [np.full(len(rows), halves / max(1, len(rows))) for rows in (samples.pictures, samples.background)]
    weights = np.concatenate(shares)[:, None]
    used = slice(None) if has_background else slice(0, none)
    first = np.c_[start, np.zeros(len(start))][used]
    if has_background:
        first[none, -1] = NONE_BIAS / scale
    penalties = np.append(np.full(start.shape[1], penalty), BIAS_PENALTY * scale**2)
    inputs, weights, first, penalties = (part.astype(np.float32) for part in (inputs, weights, first, penalties))
    steepest = 0.5 * scale**2 * float(np.linalg.eigvalsh((inputs * weights).T @ inputs)[-1]) + penalties.max()
    steps = (free[used][:, None] / steepest).astype(np.float32)
    rows, ahead, momentum, index = first, first, 1.0, np.arange(len(labels))
    for _ in range(STEPS):
        errors = unrounded_softmax((scale * inputs) @ ahead.T)
        errors[index, labels] -= 1
        slope = (errors * (scale * weights)).T @ inputs + penalties * (ahead - first)
        stepped = ahead - steps * slope
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        if ((stepped - rows) * slope).sum() > 0:  # the momentum points uphill: start again
            following = 1.0
        ahead = stepped + (momentum - 1) / following * (stepped - rows)
        rows, momentum = stepped, following
    if not has_background:
        rows = np.concatenate([rows, np.zeros((1, rows.shape[1]))])
    final = scale * rows.astype(np.float64)
    return HeadRows(final[:, :-1], final[:, -1])
