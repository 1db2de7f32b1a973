"""Accuracy from similarities: ranks, top-k, recall@k, differences; in percent, with bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = [
    "RESAMPLES",
    "SEED",
    "Interval",
    "Loss",
    "classify",
    "paired_difference",
    "paired_loss",
    "percentage",
    "ranks_of",
    "retrieval_ranks",
]

RESAMPLES = 1000
SEED = 0
# Rows of a similarity matrix in memory at a time: COCO's 5,000 x 25,000 would take 500 MB at once.
BLOCK = 256

Ranks = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Interval(BaseModel):
    """A figure in percent with its 95% bootstrap interval over the examples (1,000 resamples, seed 0)."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


def ranks_of(similarity: Floats, truth: Ranks) -> Ranks:
    """Rank (0 is best) of the right candidate in each row of [N, M]; ties and NaN count against it."""
    right = similarity[np.arange(len(truth)), truth]  # [N], each row's own
    # "Not smaller" instead of "larger or equal": a NaN is neither, and counts against the right one. Minus itself.
    return (~(similarity < right[:, None])).sum(axis=1) - 1


def classify(images: Floats, classes: Floats, labels: Ranks) -> tuple[Ranks, Ranks]:
    """Rank of each image's class among all, [N], and the class that is nearest to it, [N].

    Args:
        images: unit length [N, D].
        classes: unit length [K, D].
    """
    ranks, nearest = [], []
    for start in range(0, len(images), BLOCK):
        similarity = images[start : start + BLOCK] @ classes.T
        ranks.append(ranks_of(similarity, labels[start : start + BLOCK]))
        nearest.append(similarity.argmax(axis=1))
    return np.concatenate(ranks), np.concatenate(nearest)


def retrieval_ranks(images: Floats, texts: Floats, owners: Ranks) -> tuple[Ranks, Ranks]:
    """Ranks (0 is best) of image to text, [N], and of text to image, [M]; ties and NaN count against the right one.

    Of several captions of an image the best one counts, among the captions of other images: with five captions an
    image finds its own at rank 0 when any of them comes before all others, as recall is defined for Flickr30k and COCO.

    Args:
        owners: [M], the image of each text, in rising order; every image has at least one.
    """
    # [N + 1]: the captions of image i are those from starts[i] to starts[i + 1], since owners rise.
    starts = np.searchsorted(owners, np.arange(len(images) + 1))
    to_text = []
    for start in range(0, len(images), BLOCK):
        similarity = images[start : start + BLOCK] @ texts.T
        for number, row in enumerate(similarity, start=start):
            own = row[starts[number] : starts[number + 1]]
            best = own.max()
            to_text.append((~(row < best)).sum() - (~(own < best)).sum())  # all that come before it, without its own
    to_image = [
        ranks_of(texts[start : start + BLOCK] @ images.T, owners[start : start + BLOCK])
        for start in range(0, len(texts), BLOCK)
    ]
    return np.asarray(to_text, dtype=np.int64), np.concatenate(to_image)


@dataclass(frozen=True)
class Loss:
    """What one of two loses on the same examples: `lost` were hit by the other alone, `won` by itself alone."""

    lost: int
    won: int
    examples: int

    @property
    def points(self) -> float:
        """Of a figure in percent."""
        return 100 * (self.lost - self.won) / self.examples

    @property
    def error(self) -> float:
        """Half of the 95% interval, in points: of paired shares, whose difference depends on nothing but the examples
        that they do not agree on (McNemar, Psychometrika 12, 1947)."""
        flipped, difference = self.lost + self.won, self.lost - self.won
        return 196 * math.sqrt(flipped - difference**2 / self.examples) / self.examples

    def more_for(self, bound: float) -> int | None:
        """How many more examples like these would tell on which side of a bound, in points, the loss is; None where
        these do, and where it is the bound itself, which no number would tell."""
        apart = abs(self.points - bound)
        if self.error <= apart or apart == 0:
            return None
        return math.ceil(self.examples * ((self.error / apart) ** 2 - 1))

    def describe(self, bound: float) -> str:
        """In words, and whether the interval leaves it open on which side of the bound the loss is."""
        text = f"{self.points:+.2f} \N{PLUS-MINUS SIGN} {self.error:.2f} points ({self.lost} lost, {self.won} won)"
        if self.error <= abs(self.points - bound):
            return text
        more = self.more_for(bound)
        told = "no number of examples would tell" if more is None else f"{more:,} more would tell"
        return f"{text}, undecided: {told}"


def percentage(hits: npt.NDArray[np.bool_]) -> Interval:
    """Share of hits [N] in percent."""
    return _bootstrap(hits.astype(np.float64))


def paired_difference(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> Interval:
    """What `hits` [N] have over `other` [N] on the same examples, in points. Resampled in pairs: what both find hard
    is in both, so the interval is far narrower than that of either alone."""
    return _bootstrap(hits.astype(np.float64) - other.astype(np.float64))


def paired_loss(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> Loss:
    """What `other` [N] loses against `hits` [N] on the same examples."""
    return Loss(int((hits & ~other).sum()), int((other & ~hits).sum()), len(hits))


def _bootstrap(values: npt.NDArray[np.float64]) -> Interval:
    generator = np.random.default_rng(SEED)
    # One resample at a time: 50,000 examples by 1,000 resamples would take 400 MB.
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(value=100 * float(values.mean()), low=100 * float(low), high=100 * float(high))
