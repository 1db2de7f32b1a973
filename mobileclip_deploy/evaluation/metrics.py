"""Accuracy from similarities: ranks, top-k, recall@k, differences; in percent, with bootstrap intervals."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.intervals import Interval, mean_interval

# Standard errors of a 95% interval that is valid at either of two looks: Pocock's constant for two.
LOOKED_TWICE = 2.178
# Rows of a similarity matrix that are in memory at a time: all of COCO's 5,000 x 25,000 take 500 MB.
BLOCK = 256

Ranks = npt.NDArray[np.int64]


def ranks_of(similarity: Floats, truth: Ranks) -> Ranks:
    """Returns the rank (0 is best) of the right candidate in each row of [N, M]; ties and NaN count against it."""
    right = similarity[np.arange(len(truth)), truth]  # [N], each row's own
    # "Not smaller" instead of "larger or equal": a NaN is neither, and counts against the right one. The candidate
    # itself is subtracted.
    return (~(similarity < right[:, None])).sum(axis=1) - 1


def classify(images: Floats, classes: Floats, labels: Ranks) -> tuple[Ranks, Ranks]:
    """Returns the rank of each image's class among all classes, [N], and the index of its nearest class, [N].

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
    """Returns ranks (0 is best) of image to text, [N], and of text to image, [M]; ties and NaN count against the right
    one.

    An image's rank is that of its best caption among the captions of other images. With five captions, one of them
    before all others gives rank 0, as recall is defined for Flickr30k and COCO.

    Args:
        owners: [M], the image of each text, in rising order; every image has at least one.
    """
    # [N + 1]: the captions of image i are those from starts[i] to starts[i + 1], since owners rise.
    starts = np.searchsorted(owners, np.arange(len(images) + 1))
    to_text = []
    for start in range(0, len(images), BLOCK):
        similarity = images[start : start + BLOCK] @ texts.T
        for number, row in enumerate(similarity, start=start):
            own_scores = row[starts[number] : starts[number + 1]]
            best = own_scores.max()
            # Those of other images that are not smaller.
            to_text.append((~(row < best)).sum() - (~(own_scores < best)).sum())
    to_image = [
        ranks_of(texts[start : start + BLOCK] @ images.T, owners[start : start + BLOCK])
        for start in range(0, len(texts), BLOCK)
    ]
    return np.asarray(to_text, dtype=np.int64), np.concatenate(to_image)


@dataclass(frozen=True)
class Loss:
    """Loss of one model against another on the same examples: `lost` counts hits of the other alone, `won` its own
    alone.

    Attributes:
        looks: number of views of each example; `lost` and `won` are sums over them.
        squares: sum over examples of (lost - won)^2, each summed over the example's views. None for a single view,
            where it equals `lost + won`.
        unseen: added to `squares`: half an example each way, since an event not seen on few examples may still happen
            (Agresti and Min, Statistics in Medicine 24, 2005). 0 if nothing can have changed.
    """

    lost: int
    won: int
    examples: int
    looks: int = 1
    squares: int | None = None
    unseen: float = 1.0

    @property
    def points(self) -> float:
        """Loss in points of a figure in percent; negative if more is won than lost."""
        return 100 * (self.lost - self.won) / (self.examples * self.looks)

    @property
    def error(self) -> float:
        """Half of the 95% interval, in points.

        The difference of paired shares depends only on the examples where the two disagree (McNemar, Psychometrika 12,
        1947). All views of an example count as one draw, so their correlation needs no assumption. The factor is 2.178
        standard errors instead of 1.96, because the interval may be used twice: after one view, and after all (Pocock,
        Biometrika 64, 1977).
        """
        return self._unit * math.sqrt(self._spread + self.unseen)

    @property
    def _unit(self) -> float:
        return 100 * LOOKED_TWICE / (self.examples * self.looks)

    @property
    def _spread(self) -> float:
        squares = self.lost + self.won if self.squares is None else self.squares
        return max(squares - (self.lost - self.won) ** 2 / self.examples, 0.0)

    def side(self, bound: float) -> int | None:
        """Returns on which side of a bound, in points, the whole interval lies: -1 at or below it, 1 above it. None if
        it spans the bound."""
        if self.points + self.error <= bound:
            return -1
        return 1 if self.points - self.error > bound else None

    def more_for(self, bound: float) -> int | None:
        """Estimates how many further examples would decide the loss against a bound, in points. None if it is decided,
        or if the loss equals the bound, which no number would decide."""
        apart = abs(self.points - bound)
        if self.side(bound) is not None or apart == 0:
            return None
        # k times the examples have k times the spread, and the same `unseen`: k solves a quadratic equation.
        ratio = (self._unit / apart) ** 2
        half = ratio * self._spread / 2
        return max(1, math.ceil(self.examples * (half + math.sqrt(half**2 + ratio * self.unseen) - 1)))

    def describe(self, bound: float) -> str:
        """Describes the loss in words, and whether its interval is undecided about the bound."""
        over = "" if self.looks == 1 else f" in {self.looks} views"
        text = f"{self.points:+.2f} \N{PLUS-MINUS SIGN} {self.error:.2f} points"
        text += f" ({self.lost} lost, {self.won} won{over})"
        if self.side(bound) is not None:
            return text
        more = self.more_for(bound)
        few = "" if self.lost or self.won else "nothing changed, but "
        few += f"{self.examples:,} pictures are too few to show that at most {bound:g} points are lost"
        return f"{text}, undecided: {few}; {'no number' if more is None else f'about {more:,} more'} would do"


def percentage(hits: npt.NDArray[np.bool_]) -> Interval:
    """Returns the share of hits [N] in percent, with its interval.

    Resampling shows no spread if all or none are hits. The interval is then the exact one (Clopper and Pearson,
    Biometrika 26, 1934): for one hit in one, 2.5 to 100.
    """
    if hits.all() or not hits.any():
        nearest = 100 * 0.025 ** (1 / len(hits))
        value, low, high = (100, nearest, 100) if hits.all() else (0, 0, 100 - nearest)
        return Interval(value=value, low=low, high=high)
    return mean_interval(hits.astype(np.float64))


def paired_difference(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> Interval:
    """Returns the paired difference `hits - other`, both [N], in points, with its interval.

    The pairs are resampled. Examples that are hard for both cancel, so the interval is far narrower than that of either
    alone.
    """
    return mean_interval(hits.astype(np.float64) - other.astype(np.float64))


def paired_loss(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], exact: bool = False) -> Loss:
    """Returns the loss of `other` against `hits` on the same examples: [N], or [L, N] for L views of each.

    Args:
        exact: the two compute the same, so a flip that is not seen does not happen.
    """
    hits, other = np.atleast_2d(hits), np.atleast_2d(other)
    lost, won = hits & ~other, other & ~hits  # [L, N]
    net = lost.sum(axis=0) - won.sum(axis=0)  # [N]
    squares = int((net**2).sum()) if len(hits) > 1 else None
    return Loss(int(lost.sum()), int(won.sum()), hits.shape[1], len(hits), squares, unseen=0.0 if exact else 1.0)


def divergence(wanted: Floats, found: Floats, candidates: tuple[Floats, Floats], scale: float) -> float:
    """Returns the mean Kullback-Leibler divergence, in nats, of the rankings by `found` from those by `wanted`.

    The distributions are each image's softmax over the candidates, of `scale` times cosines, by which retrieval ranks.
    They have almost no noise, while single hits come and go by chance.

    Args:
        wanted, found: expected and actual images of unit length [N, D].
        candidates: texts of unit length [M, D], as the first and as the second model embeds them.
    """
    total = 0.0
    for start in range(0, len(wanted), BLOCK):
        pairs = zip((wanted, found), candidates, strict=True)
        logits = [scale * (images[start : start + BLOCK] @ texts.T).astype(np.float64) for images, texts in pairs]
        expected, actual = (rows - _log_sum(rows) for rows in logits)  # log of the softmax, [B, M]
        total += float((np.exp(expected) * (expected - actual)).sum())
    return max(total / len(wanted), 0.0)


def _log_sum(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    top = rows.max(axis=1, keepdims=True)
    return top + np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
