"""Metrics of DataComp's datasets, with 95% bootstrap intervals over the examples.

Each metric is a function of a count per example, [N], so that a resample is a row of counts. The definitions are those
of mlfoundations/datacomp, eval_utils/ at commit 4a8df19.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.intervals import Interval, resampled

Counts = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Metered = Callable[[Counts], float]


def percent(metered: Metered, examples: int) -> Interval:
    """Returns a metric of all examples in percent, with its interval."""
    low, high = resampled(lambda drawn: metered(np.bincount(drawn, minlength=examples).astype(np.float64)), examples)
    return Interval(value=100 * metered(np.ones(examples)), low=low, high=high)


def accuracy(hits: Bools) -> Metered:
    """Returns the share of hits [N]."""
    return lambda counts: float((counts * hits).sum() / counts.sum())


def mean_per_class_recall(labels: Integers, hits: Bools) -> Metered:
    """Returns the mean of each class's share of hits, over the classes that occur."""
    return lambda counts: float(np.mean(_shares(labels, hits, counts)))


def worst_group(groups: Integers, hits: Bools) -> Metered:
    """Returns the smallest share of hits of a group, among those that occur."""
    return lambda counts: float(np.min(_shares(groups, hits, counts)))


def macro_f1(labels: Integers, predicted: Integers) -> Metered:
    """Returns the mean F1 score of the classes that occur as labels (WILDS' F1-macro_all). A class that is never
    predicted has 0."""
    size = int(max(labels.max(), predicted.max())) + 1
    right = labels == predicted

    def metered(counts: Counts) -> float:
        true_positives = np.bincount(labels[right], counts[right], size)
        of_label = np.bincount(labels, counts, size)
        of_prediction = np.bincount(predicted, counts, size)
        occurs = of_label > 0
        return float(np.mean(2 * true_positives[occurs] / (of_label + of_prediction)[occurs]))

    return metered


def mean_recall(to_text: Bools, to_image: Bools, owners: Integers) -> Metered:
    """Returns the mean of recall@1 of images [N] among texts and of texts [M] among images. Images are resampled, each
    with its texts: `owners` [M] is the image of each text."""
    return lambda counts: (
        0.5
        * (
            float((counts * to_text).sum() / counts.sum())
            + float((counts[owners] * to_image).sum() / counts[owners].sum())
        )
    )


def mean_over(scores: Counts, chosen: Bools) -> Metered:
    """Returns the mean score of the chosen examples; both arrays are [N]."""

    def metered(counts: Counts) -> float:
        total = counts[chosen].sum()
        return float((counts * scores)[chosen].sum() / total) if total else float("nan")

    return metered


def jaccard(similarity: npt.NDArray[np.float32], right: Bools) -> float:
    """Returns the Jaccard index of the selected candidates and the right ones, [C]: the size of their intersection over
    that of their union. The nearest candidates are selected, as many as there are right ones."""
    count = int(right.sum())
    selected = np.zeros(len(right), np.bool_)
    selected[np.argsort(similarity, kind="stable")[len(right) - count :]] = True
    return float((selected & right).sum() / (selected | right).sum())


def _shares(numbers: Integers, hits: Bools, counts: Counts) -> Counts:
    total = np.bincount(numbers, counts)
    hit = np.bincount(numbers, counts * hits)
    return hit[total > 0] / total[total > 0]
