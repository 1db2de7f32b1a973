"""Threshold of a match: learned from captions with their pictures, or from background pictures alone.

The best cosine in a library is a bad judge: some captions are far from their own picture, and others are near to
anything. So the best cosine is corrected by two values. The first is the cosine that the query *would* reach, predicted
from its embedding (ridge regression). The second is the spread of its scores over the background. The threshold of the
corrected cosine grows with the logarithm of the library's size, as the largest of many scores does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle.manifest import RelevancePoint
from mobileclip_deploy.base.files.arrays import Doubles
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.spaces.logistic import fit_logistic

FALSE_ALARMS = 0.2
"""Target of the threshold: share of the queries without a picture in the library that are answered nevertheless."""
RIDGE = 1.0
"""Weight of the regression's penalty, in parts of the mean variance of a component."""
PENALTY = 1e-3
"""Penalty of the logistic regression: small, it keeps coefficients finite."""
FOLDS = 5
DRAWS = 6
"""Number of random libraries per size."""
LEAST_SIZE = 16
LEAST_NEARER = 0.7
"""Minimum share of the other pictures that a caption is farther from than from its own: 0.5 is chance; nano has
0.99."""
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
IN_SET, LEFT_OUT, NONSENSE = 0, 1, 2


@dataclass(frozen=True)
class RelevanceSamples:
    """Samples to learn from; embeddings of length 1.

    Attributes:
        texts: captions [Q, D]; any texts if there are no pictures of their own.
        pictures: their own pictures [Q, D], in the same order; [0, D] without captions that have pictures.
        nonsense: texts [N, D] that fit no picture.
        background: pictures [K, D].
    """

    texts: Doubles
    pictures: Doubles
    nonsense: Doubles
    background: Doubles

    @property
    def spreads(self) -> Doubles:
        """Standard deviation of the scores of each text, then of each nonsense text, over the background."""
        return (self.queries @ self.background.T).std(1)

    @property
    def queries(self) -> Doubles:
        """Texts, then nonsense texts [Q + N, D]."""
        return np.concatenate([self.texts, self.nonsense])

    def some(self, texts: Places, nonsense: Places) -> RelevanceSamples:
        """Returns samples with these texts, their pictures, and this nonsense only."""
        pictures = self.pictures[texts] if len(self.pictures) else self.pictures
        return RelevanceSamples(self.texts[texts], pictures, self.nonsense[nonsense], self.background)


@dataclass(frozen=True)
class MatchThreshold:
    """Threshold: a query t needs the cosine `intercept + slope ln(n) - weights . t - spread s` in a library of n
    pictures.

    Here s is the standard deviation of the query's scores over the background. `weights` [D] are 0 if there were no
    captions.
    """

    weights: Doubles
    spread: float
    intercept: float
    slope: float

    def lifted(self, texts: Doubles, spreads: Doubles) -> Doubles:
        """Returns the corrections [Q] that are added to each query's best cosine before the comparison with the
        threshold."""
        return texts @ self.weights + self.spread * spreads

    def threshold(self, size: npt.NDArray[np.int64] | int) -> Doubles:
        """Returns the threshold of corrected cosines in a library of this size."""
        return np.asarray(self.intercept + self.slope * np.log(np.maximum(size, 1)))


@dataclass(frozen=True)
class Observed:
    """Best cosines of queries in libraries.

    Attributes:
        query: row of `RelevanceSamples.queries`.
        kind: in the library, left out of it, or nonsense.
        size: number of pictures in the library.
    """

    best: Doubles
    query: Places
    kind: Places
    size: Places

    def of(self, chosen: Flags) -> Observed:
        """Returns the chosen observations."""
        return Observed(self.best[chosen], self.query[chosen], self.kind[chosen], self.size[chosen])


def observed(samples: RelevanceSamples, sizes: Sequence[int], seed: int = 0) -> Observed:
    """Runs all queries against random libraries of these sizes, drawn from the captions' own pictures or else the
    background."""
    chance = np.random.default_rng(seed)
    has_pictures = bool(len(samples.pictures))
    pool = samples.pictures if has_pictures else samples.background
    scores = samples.queries @ pool.T
    count = len(samples.texts)
    rows = np.arange(len(scores))
    draws: list[tuple[Doubles, Places, Places, Places]] = []
    for size in sizes:
        for _ in range(DRAWS):
            library = chance.permutation(len(pool))[:size]
            kinds = np.where(rows < count, LEFT_OUT, NONSENSE)
            if has_pictures:
                kinds[library] = IN_SET
            draws.append((scores[:, library].max(1), rows, kinds, np.full(len(rows), size)))
    return Observed(*(np.concatenate(part) for part in zip(*draws, strict=True)))


def fit(samples: RelevanceSamples) -> MatchThreshold:
    """Learns the threshold of a match.

    Raises:
        InvalidInput: captions are no nearer to their own pictures than to others.
    """
    if len(samples.pictures):
        _require_pairs(samples)
    observations = observed(samples, _sizes(samples))
    if not len(samples.pictures):
        lifted = MatchThreshold(np.zeros(samples.texts.shape[1]), 0.0, 0.0, 0.0)
    else:
        lifted = _lift(samples, observations)
    values = observations.best + lifted.lifted(samples.queries, samples.spreads)[observations.query]
    sizes = np.unique(observations.size)
    needed = [_quantile(values, observations, int(size)) for size in sizes]
    slope, intercept = np.polyfit(np.log(sizes), needed, 1) if len(sizes) > 1 else (0.0, needed[0])
    return MatchThreshold(lifted.weights, lifted.spread, float(intercept), max(0.0, float(slope)))


def _sizes(samples: RelevanceSamples) -> list[int]:
    """Returns an eighth, a quarter and a half of the number of pictures."""
    total = len(samples.pictures) or len(samples.background)
    return [size for size in (total // 8, total // 4, total // 2) if size >= LEAST_SIZE] or [max(1, total // 2)]


def _lift(samples: RelevanceSamples, found: Observed) -> MatchThreshold:
    """Returns the weights of a query's embedding and of its spread.

    A logistic regression separates "in the library" from the rest. Its features are the best cosine, the cosine
    expected of the query's own picture, the spread, and the logarithm of the library's size.
    """
    expected = expected_cosines(samples)
    features = np.stack([found.best, expected[found.query], samples.spreads[found.query], np.log(found.size)], axis=1)
    inside = found.kind == IN_SET
    weights = np.zeros(len(inside))
    for kind, share in ((IN_SET, 2.0), (LEFT_OUT, 1.0), (NONSENSE, 1.0)):
        for size in np.unique(found.size):
            chosen = (found.kind == kind) & (found.size == size)
            weights[chosen] = share / max(1, int(chosen.sum()))
    best, regression, spread, _ = logistic(features, inside, weights / weights.sum())
    slope, _ = ridge(samples.texts, _own(samples))
    return MatchThreshold(slope * regression / best, spread / best, 0.0, 0.0)


def _require_pairs(samples: RelevanceSamples) -> None:
    scores = samples.texts @ samples.pictures.T
    nearer = float((scores <= np.diag(scores)[:, None]).mean())
    if nearer < LEAST_NEARER:
        raise InvalidInput(
            f"the captions of `queries` are nearer to their own pictures than to {100 * nearer:.0f}% of the others; at "
            f"least {100 * LEAST_NEARER:.0f}% is needed (chance is 50%); give captions that fit their pictures"
        )


def _own(samples: RelevanceSamples) -> Doubles:
    return np.asarray((samples.texts * samples.pictures).sum(1))


def expected_cosines(samples: RelevanceSamples) -> Doubles:
    """Returns the expected cosine of each query's own picture, from a regression that has not seen it; for nonsense,
    from all."""
    actual, fold = _own(samples), np.arange(len(samples.texts)) % FOLDS
    slope, offset = ridge(samples.texts, actual)
    expected = np.asarray(samples.queries @ slope + offset)
    for index in range(FOLDS):
        test_rows = np.flatnonzero(fold == index)
        slope, offset = ridge(samples.texts[fold != index], actual[fold != index])
        expected[test_rows] = samples.texts[test_rows] @ slope + offset
    return expected


def ridge(given: Doubles, values: Doubles) -> tuple[Doubles, Doubles]:
    """Returns slope [D, ...] and offset of the linear map from `given` [Q, D] to `values` [Q, ...].

    It is least squares of centred pairs, with a penalty in parts of the mean variance of a component. The offset brings
    the means together.
    """
    mean, level = given.mean(0), values.mean(0)
    centred = given - mean
    gram = centred.T @ centred
    weight = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    slope = np.linalg.solve(gram + weight, centred.T @ (values - level))
    return slope, level - mean @ slope


def logistic(features: Doubles, inside: Flags, weights: Doubles) -> Doubles:
    """Returns the coefficients of features [n, F], which are standardised for the penalty."""
    mean, spread = features.mean(0), features.std(0) + 1e-12
    design = [*((features - mean) / spread).T[:, :, None], np.ones((len(features), 1))]
    penalties = PENALTY * np.r_[np.ones(len(spread)), 0.0]
    start = np.zeros(len(design))
    return fit_logistic(design, np.where(inside, 0, 1), weights, start, penalties, least_gain=0.0)[:-1] / spread


def _quantile(values: Doubles, found: Observed, size: int) -> float:
    """Returns the value that `FALSE_ALARMS` of the queries without a picture exceed; left out and nonsense weigh half
    each."""
    kinds = [values[(found.kind == kind) & (found.size == size)] for kind in (LEFT_OUT, NONSENSE)]
    some = [kind for kind in kinds if len(kind)]
    joined = np.concatenate(some)
    weight = np.concatenate([np.full(len(kind), 1 / len(kind)) for kind in some])
    order = np.argsort(-joined, kind="stable")
    passed = np.cumsum(weight[order]) / weight.sum()
    return float(joined[order][min(int(np.searchsorted(passed, FALSE_ALARMS)), len(order) - 1)])


def area(inside: Doubles, outside: Doubles) -> float:
    """Returns the area under the ROC curve: how often a value inside exceeds one outside; equal ones count half."""
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.mean() / 2 / len(ordered))


def measured_curve(samples: RelevanceSamples) -> tuple[RelevancePoint, ...]:
    """Measures the threshold at some sizes by cross-validation: each fifth of the captions with the fit to the others.

    Without captions that have pictures, it is measured on the texts that it was learned from.
    """
    sizes = _sizes(samples)
    if not len(samples.pictures):
        fitted = fit(samples)
        return tuple(_point([(fitted, samples, observed(samples, sizes, seed=1))], size) for size in sizes)
    observations, count = observed(samples, sizes, seed=1), len(samples.texts)
    fold = np.concatenate([np.arange(count) % FOLDS, np.arange(len(samples.nonsense)) % FOLDS])
    parts = []
    for number in range(FOLDS):
        texts, nonsense = np.flatnonzero(fold[:count] != number), np.flatnonzero(fold[count:] != number)
        parts.append((fit(samples.some(texts, nonsense)), samples, observations.of(fold[observations.query] == number)))
    return tuple(_point(parts, size) for size in sizes)


def _point(parts: Sequence[tuple[MatchThreshold, RelevanceSamples, Observed]], size: int) -> RelevancePoint:
    """Returns the figures of all parts together, at one size."""
    above: list[Doubles] = []
    raw: list[Doubles] = []
    kinds: list[Places] = []
    for fitted, samples, found in parts:
        some = found.of(found.size == size)
        lifted = some.best + fitted.lifted(samples.queries, samples.spreads)[some.query]
        above.append(lifted - fitted.threshold(size))
        raw.append(some.best)
        kinds.append(some.kind)
    values, cosines, kind = np.concatenate(above), np.concatenate(raw), np.concatenate(kinds)
    inside = kind == IN_SET

    def share(which: int) -> float | None:
        chosen = kind == which
        return round(float((values[chosen] >= 0).mean()), 4) if chosen.any() else None

    def areas(of: Doubles) -> Callable[[int], float | None]:
        return lambda which: (
            round(area(of[inside], of[kind == which]), 4) if inside.any() and (kind == which).any() else None
        )

    in_set_share = share(IN_SET)
    return RelevancePoint(
        size=size,
        left_out=share(LEFT_OUT),
        nonsense=share(NONSENSE),
        missed=None if in_set_share is None else round(1 - in_set_share, 4),
        auc_left_out=areas(values)(LEFT_OUT),
        auc_nonsense=areas(values)(NONSENSE),
        cosine_auc_left_out=areas(cosines)(LEFT_OUT),
        cosine_auc_nonsense=areas(cosines)(NONSENSE),
        roc=_roc(values[inside], values[~inside]) if inside.any() else (),
    )


def _roc(inside: Doubles, outside: Doubles) -> tuple[tuple[float, float], ...]:
    """Returns the false alarms, and the share of found pictures among the queries that have one, at ten thresholds."""
    alarms = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
    bounds = np.quantile(outside, [1 - alarm for alarm in alarms])
    return tuple(
        (alarm, round(float((inside >= bound).mean()), 4)) for alarm, bound in zip(alarms, bounds, strict=True)
    )
