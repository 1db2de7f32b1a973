"""The metrics of DataComp's datasets, with 95% bootstrap intervals over the examples.

Each is a function of how often each example counts, [N], so that a resample is a row of counts. Their definitions are
those of mlfoundations/datacomp, eval_utils/ at commit 4a8df19.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.intervals import Interval, resampled

Counts = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Metered = Callable[[Counts], float]


def percent(metered: Metered, examples: int) -> Interval:
    """A metric of all examples in percent, and its interval."""
    low, high = resampled(lambda drawn: metered(np.bincount(drawn, minlength=examples).astype(np.float64)), examples)
    return Interval(value=100 * metered(np.ones(examples)), low=low, high=high)


def accuracy(hits: Bools) -> Metered:
    """The share of hits [N]."""
    return lambda counts: float((counts * hits).sum() / counts.sum())


def mean_per_class_recall(labels: Integers, hits: Bools) -> Metered:
    """The mean of each class's share of hits, over the classes that occur."""
    return lambda counts: float(np.mean(_shares(labels, hits, counts)))


def worst_group(groups: Integers, hits: Bools) -> Metered:
    """The smallest share of hits of a group, of those that occur."""
    return lambda counts: float(np.min(_shares(groups, hits, counts)))


def macro_f1(labels: Integers, predicted: Integers) -> Metered:
    """The mean F1 score of the classes that occur as labels (WILDS' F1-macro_all); 0 of a class never predicted."""
    size = int(max(labels.max(), predicted.max())) + 1
    right = labels == predicted

    def metered(counts: Counts) -> float:
        found = np.bincount(labels[right], counts[right], size)
        there = np.bincount(labels, counts, size)
        said = np.bincount(predicted, counts, size)
        occurs = there > 0
        return float(np.mean(2 * found[occurs] / (there + said)[occurs]))

    return metered


def mean_recall(to_text: Bools, to_image: Bools, owners: Integers) -> Metered:
    """The mean of recall@1 of images [N] among texts and of texts [M] among images. Images are resampled, each with its
    texts: `owners` [M] is the image of each text."""
    return lambda counts: (
        0.5
        * (
            float((counts * to_text).sum() / counts.sum())
            + float((counts[owners] * to_image).sum() / counts[owners].sum())
        )
    )


def mean_over(scores: Counts, chosen: Bools) -> Metered:
    """The mean score of the examples that are chosen, both [N]."""

    def metered(counts: Counts) -> float:
        total = counts[chosen].sum()
        return float((counts * scores)[chosen].sum() / total) if total else float("nan")

    return metered


def jaccard(similarity: npt.NDArray[np.float32], right: Bools) -> float:
    """Jaccard index of the candidates that are taken and those that are right, [C]: the share that both sets have of
    what either has. As many candidates are taken as are right, the nearest first."""
    count = int(right.sum())
    taken = np.zeros(len(right), np.bool_)
    taken[np.argsort(similarity, kind="stable")[len(right) - count :]] = True
    return float((taken & right).sum() / (taken | right).sum())


def _shares(numbers: Integers, hits: Bools, counts: Counts) -> Counts:
    total = np.bincount(numbers, counts)
    found = np.bincount(numbers, counts * hits)
    return found[total > 0] / total[total > 0]
