"""Heads: the output of an exported tower, an embedding or the probabilities of fixed labels, as a user requests it.

A head of labels has their text embeddings and the logit scale, so that the image tower alone classifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import LabelSet, given_labels
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import TowerName, Variant

if TYPE_CHECKING:  # the head is chosen, and refused, before torch is imported
    from torch import nn

    from mobileclip_deploy.network.model.architecture import MobileCLIP


def read_head(labels: str | Sequence[str] | None, template: str | None = None, normalise: bool = False) -> Head:
    """Makes the head that a user requests: an embedding, or with labels (see `given_labels`) their probabilities.

    Raises:
        UsageError: a template without labels, probabilities at length 1, or as `given_labels`.
    """
    if labels is None:
        if template is not None:
            raise UsageError("`template` is the prompt for `labels`; give both")
        return Head(normalised=normalise)
    if normalise:
        raise UsageError("`normalise` is for embeddings, not for probabilities of `labels`; leave it out")
    return Head(given_labels(labels, template))


@dataclass(frozen=True)
class Head:
    """Output of a tower: its embedding, as it is or scaled to length 1, or with labels the probability of each.

    `learned`: rows of the labels that were learned from pictures; None for those of the labels' texts.
    """

    labels: LabelSet | None = None
    normalised: bool = False
    learned: LabelHead | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Labels, in the order of the probabilities; empty for an embedding."""
        return () if self.labels is None else self.labels.names

    def require_variant(self, variant: Variant) -> None:
        """Refuses labels for a variant whose scores are sigmoids.

        Raises:
            UsageError: see there.
        """
        if variant.scores == "sigmoid" and self.labels is not None:
            # A sigmoid may be as small as 1e-7, which is almost 0 in float16.
            raise UsageError(
                f"{variant.name} scores each label independently (sigmoid), which an artifact with `labels` cannot; "
                "leave `labels` out, and give them to `classify`"
            )

    def check(self, model: MobileCLIP, towers: Sequence[TowerName], with_texts: bool = True) -> None:
        """Refuses labels that cannot be embedded, or that would leave a tower unused.

        Args:
            with_texts: the labels' texts are embedded; False if labels are learned from pictures alone.

        Raises:
            UsageError: labels, and other towers than the image tower, or a checkpoint without a text tower.
        """
        if self.labels is None:
            return
        if (head := model.trained_head) is not None and tuple(towers) == ("image",):
            if head.classes != len(self.names):
                raise UsageError(
                    f"the checkpoint's head has {head.classes} classes, and `labels` has {len(self.names)}; give their "
                    "names in the order of training"
                )
            return
        if not with_texts and tuple(towers) == ("image",):
            return
        if tuple(towers) != ("image",) or "text" not in model.towers:
            raise UsageError("a classifier has an image tower only, and its labels need a checkpoint with a text tower")

    def module(self, model: MobileCLIP, tower: TowerName, short: bool = False) -> nn.Module:
        """Returns the tower of a folded model with this head, in eval mode: [N, ...] -> [N, D], or [N, L] with labels.

        Args:
            short: see `make_tower`.

        Raises:
            UsageError: the model is not folded, or lacks a tower.
        """
        from mobileclip_deploy.artifacts.towers.classifier import Normalised, make_classifier
        from mobileclip_deploy.artifacts.towers.tower import make_tower

        if self.labels is not None:
            return make_classifier(model, self.labels, self.learned)
        plain = make_tower(model, tower, short)
        return Normalised(plain).eval() if self.normalised else plain

    def answers(self, model: MobileCLIP, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the expected output of a tower with this head, from the checkpoint's embeddings [N, D]."""
        from mobileclip_deploy.artifacts.towers.classifier import probabilities

        if self.learned is not None:
            return self.learned.probabilities(embeddings)
        return self.scaled(embeddings) if self.labels is None else probabilities(model, self.labels, embeddings)

    def scaled(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scales embeddings [N, D] to the length at which they leave the artifact, in float64."""
        if not self.normalised:
            return embeddings
        rows = embeddings.astype(np.float64)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


EMBEDDING = Head()
