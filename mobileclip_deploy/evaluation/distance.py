"""Distance between a tower's embeddings and those of its original, as a differentiable loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

RANKED = 512
"""Number of embeddings of the other tower that are ranked at each step."""
RANKING = 0.1
"""Weight of the ranking's divergence in the loss."""


def distance(found: Tensor, wanted: Tensor, others: Tensor, scale: float) -> Tensor:
    """Returns the training loss: 1 - cosine, plus a share of the divergence between the two rankings of other
    embeddings.

    Args:
        found, wanted: actual and expected unit embeddings [B, D].
        others: unit embeddings [M, D] of the other tower, to be ranked.
        scale: the model's factor of the cosines.
    """
    ours, theirs = (F.log_softmax(scale * side @ others.T, dim=1) for side in (found, wanted))
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return (1 - (found * wanted).sum(dim=1)).mean() + RANKING * divergence
