"""Embeddings as int8 integers of one scale, which belongs to the embedding space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats

INT8_MOST = 127
"""The largest integer: -128 is not used, so that the negative of a vector can be stored too."""
MARGIN = 1.5
"""By how much a component may exceed the largest of the golden pictures before it is clipped."""


def rounded_scale(largest: float) -> float:
    """The scale of int8 integers whose largest one is this component of a unit vector: rounded up to two digits, which
    other machines' last bits do not reach."""
    wanted = min(1.0, largest) / INT8_MOST
    digits = 1 - int(np.floor(np.log10(wanted)))
    return round(float(np.ceil(wanted * 10**digits) / 10**digits), digits)


def scale_of(pictures: Floats) -> float | None:
    """The scale of an embedding space by its golden pictures' embeddings [N, D], of any length, so that every bundle of
    a checkpoint has the same; None where they are not finite, or nothing but zeros."""
    from mobileclip_deploy.pictures.embedding import unit  # with torch, which an index is read without

    largest = float(np.abs(unit(pictures)).max())
    return rounded_scale(MARGIN * largest) if 0 < largest <= 1 else None


def integers_of(vectors: Floats, scale: float) -> tuple[npt.NDArray[np.int8], int]:
    """The nearest int8 integers [N, D] of components over `scale`, half to even, and how many were clipped."""
    steps = np.rint(vectors / np.float32(scale))
    clipped = int((np.abs(steps) > INT8_MOST).sum())
    return np.clip(steps, -INT8_MOST, INT8_MOST).astype(np.int8), clipped
