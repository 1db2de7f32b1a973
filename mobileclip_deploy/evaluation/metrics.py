"""Accuracy from similarities: ranks, top-k, recall@k, differences; in percent, with bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.intervals import Interval, mean_interval

# Standard errors of a 95% interval that holds whichever of two looks it is taken at: Pocock's constant for two.
LOOKED_TWICE = 2.178
# Rows of a similarity matrix in memory at a time: COCO's 5,000 x 25,000 would take 500 MB at once.
BLOCK = 256

Ranks = npt.NDArray[np.int64]


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
    """What one of two loses on the same examples: `lost` were hit by the other alone, `won` by itself alone.

    Attributes:
        looks: at how many views of each example; what was lost and won is the sum over them.
        squares: the sum over examples of the square of what each lost more than it won, over its looks; None for a
            single look, where it is what was lost and won.
        unseen: added to `squares`: half an example each way, since what did not happen on few examples may happen
            (Agresti and Min, Statistics in Medicine 24, 2005). 0 where nothing can have changed.
    """

    lost: int
    won: int
    examples: int
    looks: int = 1
    squares: int | None = None
    unseen: float = 1.0

    @property
    def points(self) -> float:
        """Loss in points of a figure in percent; negative where more is won than lost."""
        return 100 * (self.lost - self.won) / (self.examples * self.looks)

    @property
    def error(self) -> float:
        """Half of the 95% interval, in points.

        Of paired shares, whose difference depends on nothing but the examples that the two do not agree on (McNemar,
        Psychometrika 12, 1947); the looks at an example count as one draw, so that nothing is assumed of how they go
        together. 2.178 standard errors instead of 1.96, because it may be asked twice: after one look, and after all
        (Pocock, Biometrika 64, 1977).
        """
        squares = self.lost + self.won if self.squares is None else self.squares
        difference = self.lost - self.won
        spread = squares + self.unseen - difference**2 / self.examples
        return 100 * LOOKED_TWICE * math.sqrt(max(spread, 0.0)) / (self.examples * self.looks)

    def side(self, bound: float) -> int | None:
        """On which side of a bound, in points, the whole interval lies: -1 below or at it, 1 above; None: neither."""
        if self.points + self.error <= bound:
            return -1
        return 1 if self.points - self.error > bound else None

    def more_for(self, bound: float) -> int | None:
        """How many more examples like these would tell on which side of a bound, in points, the loss is; None
        where these do, and where it is the bound itself, which no number would tell."""
        apart = abs(self.points - bound)
        if self.side(bound) is not None or apart == 0:
            return None
        return max(1, math.ceil(self.examples * ((self.error / apart) ** 2 - 1)))

    def describe(self, bound: float) -> str:
        """In words, and whether the interval leaves it open on which side of the bound the loss is."""
        over = "" if self.looks == 1 else f" in {self.looks} looks"
        text = f"{self.points:+.2f} \N{PLUS-MINUS SIGN} {self.error:.2f} points"
        text += f" ({self.lost} lost, {self.won} won{over})"
        if self.side(bound) is not None:
            return text
        more = self.more_for(bound)
        told = "no number of examples would tell" if more is None else f"{more:,} more would tell"
        return f"{text}, undecided: {told}"


def percentage(hits: npt.NDArray[np.bool_]) -> Interval:
    """Share of hits [N] in percent.

    Resampling shows no spread where all or none are hits. Then the interval is the exact one (Clopper and Pearson,
    Biometrika 26, 1934): of one hit in one, 2.5 to 100.
    """
    if hits.all() or not hits.any():
        nearest = 100 * 0.025 ** (1 / len(hits))
        return (
            Interval(value=100, low=nearest, high=100) if hits.all() else Interval(value=0, low=0, high=100 - nearest)
        )
    return mean_interval(hits.astype(np.float64))


def paired_difference(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> Interval:
    """What `hits` [N] have over `other` [N] on the same examples, in points. Resampled in pairs: what both find hard
    is in both, so the interval is far narrower than that of either alone."""
    return mean_interval(hits.astype(np.float64) - other.astype(np.float64))


def paired_loss(hits: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], exact: bool = False) -> Loss:
    """What `other` loses against `hits` on the same examples: [N], or [L, N] for L looks at each.

    Args:
        exact: the two compute the same, so that what is not seen to flip does not.
    """
    hits, other = np.atleast_2d(hits), np.atleast_2d(other)
    lost, won = hits & ~other, other & ~hits  # [L, N]
    net = lost.sum(axis=0) - won.sum(axis=0)  # [N]
    return Loss(
        int(lost.sum()),
        int(won.sum()),
        hits.shape[1],
        looks=len(hits),
        squares=int((net**2).sum()) if len(hits) > 1 else None,
        unseen=0.0 if exact else 1.0,
    )


def divergence(wanted: Floats, found: Floats, candidates: tuple[Floats, Floats], scale: float) -> float:
    """The mean Kullback-Leibler divergence, in nats, of what `found` makes of the candidates from what `wanted` does.

    Each image's softmax over the candidates, of `scale` times cosines: what retrieval ranks by. It has next to no noise
    where a hit more or less is chance.

    Args:
        wanted, found: images of unit length [N, D].
        candidates: texts of unit length [M, D], as the one and as the other embeds them.
    """
    total = 0.0
    for start in range(0, len(wanted), BLOCK):
        pairs = zip((wanted, found), candidates, strict=True)
        logits = [scale * (images[start : start + BLOCK] @ texts.T).astype(np.float64) for images, texts in pairs]
        own, other = (rows - _log_sum(rows) for rows in logits)  # log of the softmax, [B, M]
        total += float((np.exp(own) * (own - other)).sum())
    return max(total / len(wanted), 0.0)


def _log_sum(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    top = rows.max(axis=1, keepdims=True)
    return top + np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
