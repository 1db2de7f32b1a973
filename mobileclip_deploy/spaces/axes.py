"""Axes that preserve search results: fitted to embeddings of pictures and texts, in float64.

They are the principal axes of the log-Euclidean mean of both second moments (Arsigny et al., SIAM J. Matrix Anal. Appl.
29, 2007): the mean of their logarithms. A direction that is strong in pictures alone, or in texts alone, does not win
over one that is strong in both. The axes are then rotated within their span so that signs describe a picture best (ITQ:
Gong et al., IEEE TPAMI 35, 2013): no cosine changes, and an index of sign bits finds more. benchmarks/compact.py
measures both, and alternatives.
"""

import numpy as np

from mobileclip_deploy.base.files.arrays import Doubles, Floats
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.pictures.embedding import at_length_one

SHRINKAGE = 0.1
"""Part of the mean variance that is added to every direction, so that the logarithm of a moment exists."""
GRID = 2.0**-20
"""Step to which the elements of axes are rounded. It removes differences between processors and thread counts (below
1e-12), and keeps products of axes at 0 and 1 within 1e-6."""
SPREAD = 1e-3
"""Smallest difference of components by which embeddings count as different. Grey pictures with one pixel changed differ
by 1e-4, nano's calibration pictures by 0.6."""
LEAST_SCALE, LARGEST_SCALE = 0.01, 1000.0
TURNS = 50
"""Number of alternations. Nano's axes stop moving before it, at 64 dimensions and at 128."""


def fit_axes(images: Doubles, texts: Doubles, size: int, logit_scale: float) -> tuple[Floats, float]:
    """Fits orthonormal axes float32 [D, N] for smaller embeddings, and the logit scale that fits the remaining cosines
    best.

    Args:
        images: embeddings [P, D] by the image tower; texts: [T, D] by the text tower; of any length.
        size: number of dimensions N to keep, at most D. With N = D the axes are a rotation, which keeps every cosine.
        logit_scale: factor of the full cosines before a softmax.

    Raises:
        InvalidInput: embeddings that are not finite, of no length, or all the same.
    """
    pictures, words = unit_if_distinct(images, "pictures"), unit_if_distinct(texts, "captions")
    axes = np.round(turned_for_signs(pictures, mean_axes(pictures, words, size)) / GRID) * GRID
    cut = at_length_one(words @ axes) @ at_length_one(pictures @ axes).T
    return axes.astype(np.float32), fit_logit_scale(words @ pictures.T, cut, logit_scale)


def mean_axes(images: Doubles, texts: Doubles, size: int) -> Doubles:
    """Returns the `size` principal axes [D, N] of the log-Euclidean mean of both second moments, the strongest first.

    The largest element of each axis is positive.

    Args:
        images: unit length [P, D]; texts: [T, D].
    """
    logarithm = (_logarithm(images) + _logarithm(texts)) / 2
    axes = np.linalg.eigh(logarithm)[1][:, ::-1][:, :size]
    strongest = np.abs(axes).argmax(axis=0)
    return np.ascontiguousarray(axes * np.sign(axes[strongest, np.arange(size)]))


def turned_for_signs(images: Doubles, axes: Doubles) -> Doubles:
    """Rotates axes [D, N] within their span so that embeddings are as near as possible to their signs.

    It alternates between the signs and the rotation that brings the embeddings nearest to them (Procrustes). It starts
    from the cosine transform, which mixes all axes and is the same everywhere; numpy may change its random numbers
    between versions.

    Args:
        images: unit length [P, D].
    """
    rows, size = at_length_one(images @ axes), axes.shape[1]
    turn = np.cos(np.pi * np.outer(2 * np.arange(size) + 1, np.arange(size)) / (2 * size)) * np.sqrt(2 / size)
    turn[:, 0] /= np.sqrt(2)
    for _ in range(TURNS):
        left, _, right = np.linalg.svd(rows.T @ np.where(rows @ turn < 0, -1.0, 1.0))
        turn = left @ right
    return np.asarray(axes @ turn)


def fit_logit_scale(full: Doubles, cut: Doubles, logit_scale: float) -> float:
    """Returns the scale s with the smallest mean over pictures of KL(softmax(logit_scale full) || softmax(s cut)) over
    texts.

    A classifier uses the scale in that softmax. At the best s both distributions have the same mean of the cosines in
    `cut`, and that mean rises with s: s is found by bisection, to six digits.

    Args:
        full: cosines [T, P] of texts and pictures by full embeddings; cut: by those on axes.
    """
    target = _mean_under(logit_scale * full, cut)
    low, high = np.log(LEAST_SCALE), np.log(LARGEST_SCALE)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_under(np.exp(middle) * cut, cut) < target else (low, middle)
    return float(f"{np.exp((low + high) / 2):.6g}")


def _mean_under(logits: Doubles, values: Doubles) -> float:
    """Returns the mean over columns of the mean of values [T, P] under the softmax of logits [T, P] over rows."""
    weights = np.exp(logits - logits.max(axis=0))
    return float(((weights * values).sum(axis=0) / weights.sum(axis=0)).mean())


def _logarithm(rows: Doubles) -> Doubles:
    moment = rows.T @ rows / len(rows)
    shrunk = (1 - SHRINKAGE) * moment + SHRINKAGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray((vectors * np.log(values)) @ vectors.T)


def unit_if_distinct(rows: Doubles, what: str) -> Doubles:
    """Returns embeddings scaled to length 1, if they differ.

    Raises:
        InvalidInput: they are not finite, of no length, or all the same.
    """
    if not (np.isfinite(rows).all() and rows.any(axis=1).all()):
        raise InvalidInput(f"the checkpoint's embeddings of these {what} are zero or not finite")
    unit = at_length_one(rows)
    if np.ptp(unit, axis=0).max() < SPREAD:
        raise InvalidInput(
            f"the checkpoint's embeddings of all these {what} are equal within {SPREAD:g}: they are indistinguishable"
        )
    return unit
