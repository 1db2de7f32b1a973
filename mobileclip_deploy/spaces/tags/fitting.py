"""Choice of a method by cross-validation, calibration of its odds, and the threshold of each label."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.heads.label_head import LARGEST_RATIO
from mobileclip_deploy.base.files.arrays import Doubles
from mobileclip_deploy.network.model.scores import unrounded_softmax
from mobileclip_deploy.spaces.logistic import fit_logistic
from mobileclip_deploy.spaces.tags.rows import (
    LEAST_PICTURES,
    METHODS,
    TEXTS,
    WITHOUT_TEXTS,
    HeadRows,
    Indices,
    LabelSamples,
    Method,
    make_rows,
)

FOLDS = 4
SHARE = 0.1
"""Least share of the most probable label's probability that a further label needs."""
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FittedLabels:
    """A learned head.

    Attributes:
        rows: calibrated, so that their softmax are probabilities.
        ratios: [L], a label is present if its probability is at least this multiple of that of "none of these".
        method: the chosen one.
        texts_right: share of examples whose label the texts alone predict; None without texts.
        right: the same for the chosen method, on examples that were held out.
        true_tags: share of held-out examples that get their label.
        false_tags: share of pictures without a label that get one, held out; without a background, of examples with
            other names, or without their own label.
    """

    rows: HeadRows
    ratios: Doubles
    method: Method
    texts_right: float | None
    right: float
    true_tags: float
    false_tags: float


def fit(samples: LabelSamples, false_tags: float) -> FittedLabels:
    """Learns a head: chooses the method, calibrates it, and sets thresholds, all on held-out pictures.

    The texts alone are chosen unless another method has a smaller loss by more than its standard error, and is right as
    often.

    Args:
        false_tags: target share of pictures without a label that get one.
    """
    folds = _folds(samples.labels), np.arange(len(samples.background)) % FOLDS
    tested = np.bincount(samples.labels, minlength=samples.count)[samples.labels] >= LEAST_PICTURES
    texts, best = None, None
    for method in METHODS if samples.texts is not None else WITHOUT_TEXTS:
        trial = _trial(method, samples, folds)
        if method is TEXTS:
            texts = trial
        if best is None or _better(trial, best, texts, tested):
            best = trial
    assert best is not None
    method, examples, without = best.method, best.examples, best.without
    if samples.texts is not None and samples.names is not None:
        without = _named(best, samples, samples.texts, samples.names)
    thresholds = _thresholds(examples, samples.labels, without, false_tags)
    rows = make_rows(method, samples)
    tags = present(examples, thresholds)
    return FittedLabels(
        rows=_calibrated(rows, best.slope, best.offset),
        ratios=np.minimum(np.exp(thresholds), LARGEST_RATIO),
        method=method,
        texts_right=None if texts is None else float(texts.right[tested].mean()),
        right=float(best.right[tested].mean()),
        true_tags=float(tags[np.arange(len(tags)), samples.labels][tested].mean()),
        false_tags=float(present(without, thresholds).any(axis=1).mean()),
    )


@dataclass(frozen=True)
class _Trial:
    """A method on held-out pictures: calibrated odds of the examples [N, L] and of pictures without a label [M, L].

    `right`: whether an example's label is the first. `losses`: of all N + M pictures; `slope`, `offset`: calibration.
    """

    method: Method
    examples: Doubles
    without: Doubles
    right: Doubles
    losses: Doubles
    slope: float
    offset: float


def _trial(method: Method, samples: LabelSamples, folds: tuple[Indices, Indices]) -> _Trial:
    labels = samples.labels
    odds = _held_out(method, samples, *folds)
    examples = odds[: len(labels)]
    own = np.arange(samples.count) == labels[:, None]  # without a background: examples as if they had no label
    without = odds[len(labels) :] if len(samples.background) else np.where(own, -np.inf, examples)
    slope, offset = _calibration(examples, labels, without)
    examples, without = slope * examples + offset, slope * without + offset
    logits = np.c_[np.concatenate([examples, without]), np.zeros(len(examples) + len(without))]
    targets = np.concatenate([labels, np.full(len(without), samples.count)])
    losses = -np.log(np.maximum(unrounded_softmax(logits)[np.arange(len(targets)), targets], 1e-30))
    right = (examples.argmax(axis=1) == labels).astype(np.float64)
    return _Trial(method, examples, without, right, losses, slope, offset)


def _better(trial: _Trial, best: _Trial, texts: _Trial | None, tested: Flags) -> bool:
    """Returns whether a method has a smaller loss than the best so far, and beats the texts by its standard error.

    Its first labels must not be right less often than those of the texts, by more than the standard error. Without a
    background, whose losses are missing, they must be right more often. Both halves of the loss weigh the same.
    """
    nearer = _paired(trial.losses - best.losses, len(tested), tested)[0] < 0
    if texts is None:
        return nearer
    gain, error = _paired(texts.losses - trial.losses, len(tested), tested)
    change = (trial.right - texts.right)[tested]
    spread, has_background = change.std() / np.sqrt(max(1, len(change))), np.isfinite(trial.without).all()
    right = change.mean() >= -spread if has_background else change.mean() > 0
    return bool(gain > error and right and nearer)


def _paired(values: Doubles, count: int, tested: Flags) -> tuple[float, float]:
    """Returns the mean of both halves' means, and its standard error."""
    halves = values[:count][tested], values[count:]
    error = sum(half.var() / max(1, len(half)) for half in halves) ** 0.5 / 2
    return float(np.mean([half.mean() for half in halves])), float(error)


def present(odds: Doubles, thresholds: Doubles) -> Flags:
    """Returns which labels [N, L] are present: those above their threshold, and not far below the best."""
    return np.asarray((odds >= thresholds) & (odds >= odds.max(axis=1, keepdims=True) + np.log(SHARE)))


def _folds(labels: Indices) -> Indices:
    """Returns the fold of each example; the examples of each label are spread evenly."""
    order = np.argsort(labels, kind="stable")
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % FOLDS
    return folds


def _held_out(method: Method, samples: LabelSamples, fold: Indices, background_fold: Indices) -> Doubles:
    """Returns the odds of every example, then of every background picture, by rows that did not see them."""
    if method is TEXTS:
        return make_rows(method, samples).odds(np.concatenate([samples.pictures, samples.background]))
    odds = np.zeros((len(fold) + len(background_fold), samples.count))
    for index in range(FOLDS):
        rows = make_rows(method, samples.some(np.flatnonzero(fold != index), np.flatnonzero(background_fold != index)))
        for start, folds, pictures in ((0, fold, samples.pictures), (len(fold), background_fold, samples.background)):
            held_out = np.flatnonzero(folds == index)
            odds[start + held_out] = rows.odds(pictures[held_out])
    return odds


def _named(trial: _Trial, samples: LabelSamples, texts: Doubles, names: Doubles) -> Doubles:
    """Returns odds of examples [M, L] as if no label fitted: random names are in the place of the labels' texts."""
    added = trial.examples - trial.slope * samples.scale * samples.pictures @ texts.T
    chance, rows = np.random.default_rng(0), np.arange(max(512, len(added))) % len(added)  # 5% of 512 are 25
    drawn = chance.integers(len(names), size=(len(rows), samples.count))
    cosines = np.take_along_axis((samples.pictures @ names.T)[rows], drawn, axis=1)
    return np.asarray(added[rows] + trial.slope * samples.scale * cosines)


def _calibration(examples: Doubles, labels: Indices, without: Doubles) -> tuple[float, float]:
    """Returns the slope and offset of the odds that make their softmax likeliest.

    Examples, and pictures without a label, weigh one half each.
    """
    odds, count = np.concatenate([examples, without]), len(labels)
    chosen = np.concatenate([labels, np.full(len(without), odds.shape[1])])
    weights = np.concatenate([np.full(count, 0.5 / count), np.full(len(without), 0.5 / len(without))])
    highest = np.where(np.isfinite(odds), odds, 0.0).max(axis=1)
    start = np.array([1.0, -float(np.median(highest))])
    slope, offset = fit_logistic([odds, np.broadcast_to(1.0, odds.shape)], chosen, weights, start)
    return float(slope), float(offset)


def _thresholds(examples: Doubles, labels: Indices, without: Doubles, false_tags: float) -> Doubles:
    """Returns the odds [L] that a label needs.

    One value for all labels lets `false_tags` of the pictures without a label pass. A label that more than `false_tags`
    of the other labels' pictures would get needs more.
    """
    general = _exceeded(without.max(axis=1), false_tags)
    near = examples >= examples.max(axis=1, keepdims=True) + np.log(SHARE)
    thresholds = np.full(examples.shape[1], general)
    for index in range(len(thresholds)):
        others = labels != index
        competing = np.where(near[others, index], examples[others, index], -np.inf)
        thresholds[index] = max(general, _exceeded(competing, false_tags))
    return thresholds


def _exceeded(values: Doubles, share: float) -> float:
    """Returns the value that at most this share of `values` reaches."""
    if not len(values):
        return -np.inf
    ordered = np.sort(values)[::-1]
    return float(np.nextafter(ordered[min(int(share * len(ordered)), len(ordered) - 1)], np.inf))


def _calibrated(rows: HeadRows, slope: float, offset: float) -> HeadRows:
    """Applies the calibration, and centres rows and biases, which a softmax does not see.

    Centred, "none of these" has a row of its own even if no background was given: formats scale each row.
    """
    weights, biases = slope * rows.weights, slope * rows.biases
    biases[-1] -= offset
    return HeadRows(weights - weights.mean(0), biases - biases.mean())
