"""Distances between two sets of embeddings of the same inputs, in float64; the worst over the inputs counts."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from mobileclip_deploy.errors import Malformed

# References are rounded to float32: differences below a few units of the last place count as none.
ALIKE = 1e-6


class Deviation(BaseModel, frozen=True, ser_json_inf_nan="strings"):  # JSON has no word for infinity
    """Distance of `out` from `ref`.

    `relative`: max ||out - ref|| / ||ref||. `cosine`: min cosine. `snr_db`: the centred signal-to-noise ratio, 10 log10
    of sum |ref - mean(ref)|^2 over sum |ref - out|^2. It does not flatter embeddings that all point the same way. None
    if the two are equal to the bit, or if the inputs do not differ: a single one, or equal ones. `scale`: the ratio
    ||out|| / ||ref|| furthest from 1, which a cosine does not see. `spread`: how much the embeddings in `ref` differ
    (see `spread`). None in figures of earlier versions.
    """

    relative: float
    cosine: float
    snr_db: float | None = None
    scale: float = 1.0
    spread: float | None = None
    inputs: int

    def value(self, metric: str) -> float:
        """Returns `relative` or `cosine` by name."""
        return float(getattr(self, metric))

    @property
    def decibels(self) -> str:
        """Signal-to-noise ratio as text, without a unit; in words if it has no value."""
        if self.snr_db is not None:
            return f"{self.snr_db:.1f}"
        return "exact" if self.relative == 0 else "not judged"


def spread(embeddings: npt.ArrayLike) -> float:
    """Returns how much embeddings [N, D] of different inputs differ: sqrt(sum |e - mean(e)|^2 / sum |e|^2), 0 to 1.

    At 0.01, two of them have a cosine of about 1 - 0.01^2 = 0.9999; a trained network has 0.5 and more.
    """
    e = np.asarray(embeddings, dtype=np.float64)
    size = float((e**2).sum())
    return float(np.sqrt(((e - e.mean(axis=0)) ** 2).sum() / size)) if size > 0 else 0.0


def flat(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns outputs [N, ...] as one vector per input, [N, D]."""
    return values.reshape(len(values), -1)


def compare(ref: npt.ArrayLike, out: npt.ArrayLike) -> Deviation:
    """Compares embeddings [N, D] with their reference [N, D]; tokens [N, T, D] count as one vector per input.

    A NaN or infinite value anywhere in `out`, or an embedding of zeros, gives figures that no gate passes.

    Raises:
        ValueError: the shapes differ or N is 0.
    """
    a, b = np.asarray(ref, dtype=np.float64), np.asarray(out, dtype=np.float64)
    if a.shape != b.shape or a.ndim < 2 or not len(a):
        raise Malformed(f"embeddings of shapes {list(a.shape)} and {list(b.shape)} cannot be compared")
    a, b = flat(a), flat(b)
    if not np.isfinite(b).all():
        return Deviation(relative=math.inf, cosine=-1.0, snr_db=-math.inf, scale=math.inf, inputs=len(a))
    norm_a, norm_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)  # [N] each
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.linalg.norm(b - a, axis=1) / norm_a
        # An embedding of zeros has no direction; -1 lets no gate pass it.
        cosine = np.where(norm_b > 0, (a * b).sum(axis=1) / (norm_a * norm_b), -1.0)
        ratios = np.where(norm_a > 0, norm_b / norm_a, np.inf)
        scale = ratios[np.abs(np.log(ratios)).argmax()]
    noise = float(((a - b) ** 2).sum())
    # Centred: embeddings of one model share a large mean, against which any noise looks small.
    signal = float(((a - a.mean(axis=0)) ** 2).sum())
    differing = spread(a)
    return Deviation(
        relative=float(relative.max()),
        cosine=float(cosine.min()),
        snr_db=None if noise == 0 or differing <= ALIKE else 10 * math.log10(signal / noise),
        scale=float(scale),
        spread=differing,
        inputs=len(a),
    )


# The largest of some hundred evenly spread errors is three to four times their root mean square; the rest is margin.
PEAK = 6


def value_tolerance(expected: npt.NDArray[np.float32], metric: str, bound: float) -> float:
    """Returns the largest difference of one value if an embedding is just within its gate and its error spread evenly.

    Args:
        expected: embeddings [N, D].
        metric: `relative`, or `cosine` (as a relative deviation: sqrt(2 (1 - cosine))).
        bound: of the gate.
    """
    relative = math.sqrt(2 * max(0.0, 1 - bound)) if metric == "cosine" else bound
    return PEAK * relative * float(np.sqrt((expected.astype(np.float64) ** 2).mean(axis=1)).max())
