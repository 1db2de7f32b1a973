"""The loss of multi-modal reinforced training (MobileCLIP, arXiv 2311.17049, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TeacherBatch", "clip_loss", "distillation_loss", "reinforced_loss", "soft_cross_entropy"]


@dataclass(frozen=True)
class TeacherBatch:
    """What one teacher says of a batch: unit embeddings [B, D'] of images and texts, and the factor of its cosines
    (the inverse of its temperature). D' is the teacher's own."""

    images: Tensor
    texts: Tensor
    scale: float


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor, positives: Tensor | None = None) -> Tensor:
    """CLIP's loss: cross-entropy of images against texts and of texts against images, their mean.

    Args:
        images, texts: unit embeddings [B, D], pair by pair.
        scale: the factor of the cosines.
        positives: [B, B] nonzero where image i and text j belong together, for batches in which a caption occurs more
            than once; the diagonal when None.
    """
    logits = scale * images @ texts.T
    wanted = torch.eye(len(images), dtype=logits.dtype, device=logits.device)
    if positives is not None:
        wanted = positives.to(logits.dtype)
    return 0.5 * (soft_cross_entropy(logits, wanted) + soft_cross_entropy(logits.T, wanted.T))


def distillation_loss(images: Tensor, texts: Tensor, scale: Tensor, teachers: Sequence[TeacherBatch]) -> Tensor:
    """Half the divergence KL(teacher || student) of the softmax over texts of each image, and half that over images of
    each text; mean over the batch and over teachers, each at its own temperature.

    Args:
        images, texts: the student's unit embeddings [B, D].
        scale: the student's factor of the cosines.
        teachers: at least one.
    """
    logits = scale * images @ texts.T
    total = logits.new_zeros(())
    for teacher in teachers:
        theirs = (teacher.scale * teacher.images @ teacher.texts.T).to(logits.dtype)
        total = total + 0.5 * (_divergence(theirs, logits) + _divergence(theirs.T, logits.T))
    return total / len(teachers)


def reinforced_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    teachers: Sequence[TeacherBatch],
    weight: float,
    positives: Tensor | None = None,
) -> Tensor:
    """(1 - weight) CLIP's loss + weight distillation, for one set of captions; see its two parts.

    The paper adds this for the true and for a synthetic caption of each image.
    """
    loss = images.new_zeros(())
    if weight < 1:
        loss = loss + (1 - weight) * clip_loss(images, texts, scale, positives)
    if weight > 0:
        loss = loss + weight * distillation_loss(images, texts, scale, teachers)
    return loss


def soft_cross_entropy(logits: Tensor, positives: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits [R, C] against the uniform distribution over each row's positives (0 or 1, [R, C])."""
    return F.cross_entropy(logits, positives / positives.sum(1, keepdim=True), label_smoothing=label_smoothing)


def _divergence(theirs: Tensor, ours: Tensor) -> Tensor:
    """KL(softmax(theirs) || softmax(ours)) of each row, mean over rows."""
    return F.kl_div(F.log_softmax(ours, 1), F.log_softmax(theirs, 1), reduction="batchmean", log_target=True)
