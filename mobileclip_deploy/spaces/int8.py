"""Embeddings as int8 integers with one scale, which belongs to the embedding space."""

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Floats

INT8_MOST = 127
"""Largest integer: -128 is not used, so that the negative of a vector can be stored too."""
MARGIN = 1.5
"""Factor over the golden pictures' largest component up to which components are not clipped."""


def rounded_scale(largest: float) -> float:
    """Returns the int8 scale for a unit vector's largest component.

    It is rounded up to two digits, so that other machines' last bits do not change it.
    """
    exact = min(1.0, largest) / INT8_MOST
    digits = 1 - int(np.floor(np.log10(exact)))
    return round(float(np.ceil(exact * 10**digits) / 10**digits), digits)


def scale_of(pictures: Floats) -> float | None:
    """Returns the scale of an embedding space, from its golden pictures' embeddings [N, D] of any length.

    Every bundle of a checkpoint has the same scale. None if the embeddings are not finite, or all zeros.
    """
    from mobileclip_deploy.pictures.embedding import unit  # imports torch, which reading an index does not need

    largest = float(np.abs(unit(pictures)).max())
    return rounded_scale(MARGIN * largest) if 0 < largest <= 1 else None


def integers_of(vectors: Floats, scale: float) -> tuple[npt.NDArray[np.int8], int]:
    """Returns the nearest int8 integers [N, D] of components over `scale`, half to even, and the number of clipped
    ones."""
    steps = np.rint(vectors / np.float32(scale))
    clipped = int((np.abs(steps) > INT8_MOST).sum())
    return np.clip(steps, -INT8_MOST, INT8_MOST).astype(np.int8), clipped
