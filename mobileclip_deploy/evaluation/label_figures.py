"""Precision, recall and average precision of labels, each alone (macro) and all decisions together (micro)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats

MOST_SCORES = 50_000_000
"""Most scores that are kept and sorted: 50,000 pictures of 1,000 classes."""
Flags = npt.NDArray[np.bool_]
Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelFigures:
    """Figures in percent of each class [K], NaN where undefined: a class without predictions has no precision.

    `averages`: `macro_...` are means over the classes that have the figure, `micro_...` are of all decisions together.
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    average_precision: npt.NDArray[np.float64]
    averages: dict[str, float]


def label_figures(scores: Floats, labels: Ranks, predicted: Flags) -> LabelFigures:
    """Computes the figures of one label per picture.

    Args:
        scores: of each picture for each class [N, K].
        labels: the class of each picture [N].
        predicted: whether each class is predicted for each picture [N, K].
    """
    right = np.arange(scores.shape[1])[None] == labels[:, None]  # [N, K]
    hits = (right & predicted).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = 100 * hits / predicted.sum(axis=0), 100 * hits / right.sum(axis=0)
        micro = 100 * hits.sum() / np.array([predicted.sum(), right.sum()])
    areas = np.array([average_precision(scores[:, index], right[:, index]) for index in range(scores.shape[1])])
    named = {"precision": (precision, micro[0]), "recall": (recall, micro[1])}
    named["average_precision"] = (areas, average_precision(scores.ravel(), right.ravel()))
    averages = {f"macro_{name}": _mean(each) for name, (each, _) in named.items()}
    averages |= {f"micro_{name}": float(whole) for name, (_, whole) in named.items()}
    return LabelFigures(precision, recall, areas, {name: value for name, value in averages.items() if value == value})


def _mean(values: npt.NDArray[np.float64]) -> float:
    some = values[~np.isnan(values)]
    return float(some.mean()) if len(some) else float("nan")


def average_precision(scores: Floats, right: Flags) -> float:
    """Returns the average precision in percent: the mean precision at the right ones, by falling score. Equal scores
    count as one step, as in scikit-learn. NaN if none is right."""
    if not right.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, ordered = np.cumsum(right[order]), scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    gained = np.diff(hits[ends], prepend=0)
    return float(100 * (gained * hits[ends] / (ends + 1)).sum() / right.sum())
