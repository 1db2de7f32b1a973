"""Scores of cosines: shares of all labels by a softmax, or a probability for each alone by a sigmoid."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=np.floating[Any])

LARGEST = 1e6
"""Largest factor and bias: SigLIP's are 118 and -17; far beyond this float32 overflows."""


@dataclass(frozen=True)
class Scores:
    """Score function of a model. `scale`: factor of cosines. `bias`: added to the product before a sigmoid (arXiv
    2303.15343); None for a model that was trained with a softmax (arXiv 2103.00020)."""

    scale: float
    bias: float | None = None

    @property
    def bounded(self) -> bool:
        """True if float32 can represent the logits."""
        return 0 <= self.scale <= LARGEST and abs(self.bias or 0) <= LARGEST

    def of(self, cosines: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Returns scores [N, L] from 0 to 1 of pictures' cosines with labels [N, L]; a softmax's rows sum to 1."""
        logits = self.scale * cosines
        return softmax(logits) if self.bias is None else sigmoid(logits + self.bias)


@dataclass(frozen=True)
class TrainedHead:
    """A linear classifier that was trained on an image tower: `weights` [L, D] and `bias` [L], float64. `normalised`:
    it takes embeddings of length 1."""

    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    normalised: bool

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.weights)

    def of(self, embeddings: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Returns probabilities [N, L] of image embeddings [N, D]."""
        if self.normalised:
            embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return softmax(embeddings @ self.weights.T + self.bias)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Returns the softmax of rows [N, L], rounded to float32."""
    return unrounded_softmax(logits).astype(np.float32)


def unrounded_softmax(logits: npt.NDArray[F]) -> npt.NDArray[F]:
    """Returns the softmax of rows [N, L] in their own type."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Returns 1 / (1 + exp(-x)) of every element, by powers that cannot overflow."""
    power = np.exp(-np.abs(logits))
    return (np.where(logits >= 0, 1, power) / (1 + power)).astype(np.float32)
