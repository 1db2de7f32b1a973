"""Accuracy from similarities: ranks, top-k, recall@k, differences; in percent, with bootstrap intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = [
    "RESAMPLES",
    "SEED",
    "Interval",
    "classify",
    "paired_difference",
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


def percentage(hits: npt.NDArray[np.bool_]) -> Interval:
    """Share of hits [N] in percent."""
    return _bootstrap(hits.astype(np.float64))


def paired_difference(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> Interval:
    """What `hits` [N] have over `other` [N] on the same examples, in points. Resampled in pairs: what both find hard
    is in both, so the interval is far narrower than that of either alone."""
    return _bootstrap(hits.astype(np.float64) - other.astype(np.float64))


def _bootstrap(values: npt.NDArray[np.float64]) -> Interval:
    generator = np.random.default_rng(SEED)
    # One resample at a time: 50,000 examples by 1,000 resamples would take 400 MB.
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(value=100 * float(values.mean()), low=100 * float(low), high=100 * float(high))
