"""Comparison of two embedders on the same pictures: in one view first, and in all views if that is undecided."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import IN_FULL, Measurement, Measuring, measure
from mobileclip_deploy.evaluation.metrics import Loss, divergence, paired_loss
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.image_sources import VIEWS


@dataclass
class Looks:
    """Measurements of an embedder on a dataset, one per view (`VIEWS`), made on first use."""

    embedder: Embedder
    dataset: Dataset
    how: Measuring = IN_FULL
    progress: Progress = silent
    cached: list[Measurement] = field(default_factory=list)

    @property
    def plain(self) -> Measurement:
        """Measurement of the unchanged pictures."""
        return self.runs(1)[0]

    def runs(self, count: int) -> list[Measurement]:
        """Returns the measurements of the first `count` views."""
        while len(self.cached) < count:
            captioned = bool(self.cached) and "retrieval" in self.dataset.tasks
            how = replace(self.how, captions=self.cached[0].texts) if captioned else self.how
            view, name = VIEWS[len(self.cached)], f"view {len(self.cached) + 1}/{len(VIEWS)}"
            progress = about(name, self.progress) if self.cached else self.progress
            self.cached.append(measure(self.embedder.with_view(view), self.dataset, how=how, progress=progress))
        return self.cached[:count]


@dataclass(frozen=True)
class Paired:
    """Loss of each figure, and the mean divergence of the images' predictions, in nats (`divergence`)."""

    losses: dict[str, Loss]
    divergence: float

    def outcome(self, bound: float) -> Literal["passed", "failed", "undecided"]:
        """Decides whether any loss exceeds `bound` points: failed if one does by its whole interval, passed if none
        can, else undecided."""
        sides = {loss.side(bound) for loss in self.losses.values()}
        return "failed" if 1 in sides else "undecided" if None in sides else "passed"

    def more_for(self, bound: float) -> int | None:
        """Estimates the number of further pictures that would decide every loss (`Loss.more_for`). None if no number
        would, or if all are decided."""
        undecided = [loss for loss in self.losses.values() if loss.side(bound) is None]
        counts = [loss.more_for(bound) for loss in undecided]
        return None if None in counts else max((more for more in counts if more is not None), default=None)

    def describe(self, bound: float) -> str:
        """Describes each loss, and the divergence, in words."""
        parts = [f"{name} drops {loss.describe(bound)}" for name, loss in self.losses.items()]
        return "; ".join([*parts, f"KL {self.divergence:.2g} nats"])


def paired_looks(
    own: Looks,
    found: Looks,
    figures: Sequence[str],
    bound: float,
    exact: bool = False,
    views: Sequence[int] = (1, len(VIEWS)),
) -> Paired:
    """Compares `found` with the reference `own`, figure by figure.

    Args:
        figures: names in `Measurement.hits`; those that the dataset does not have are left out.
        bound: in points; the other views are measured only if the first leaves a loss undecided.
        exact: the two compute the same except for rounding in float32.
        views: numbers of views, each used if the one before it decides nothing.

    Raises:
        InvalidInput: an image cannot be used.
    """
    before, after = own.plain, found.plain
    apart = divergence(before.images, after.images, (before.texts, after.texts), own.embedder.scores.scale)
    paired = Paired({}, apart)
    for count in views:
        both = own.runs(count), found.runs(count)
        pairs = {name: (_hits(both[0], name), _hits(both[1], name)) for name in figures if name in before.hits}
        paired = Paired({name: paired_loss(*hits, exact) for name, hits in pairs.items()}, apart)
        if paired.outcome(bound) != "undecided":
            break
    return paired


def _hits(looks: Sequence[Measurement], name: str) -> npt.NDArray[np.bool_]:
    return np.stack([look.hits[name] for look in looks])  # [L, N]
