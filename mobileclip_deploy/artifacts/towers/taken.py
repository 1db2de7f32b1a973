"""What a tower takes, said once for every target: what else is given is refused, not answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName

# How far from [0, 1] a resize in float32 ends; in float16 its own steps are larger.
ROUNDING = 1e-5


def taken_inputs(
    given: object, tower: TowerName, size: int, lengths: Sequence[int], words: int
) -> npt.NDArray[np.generic]:
    """The input of a tower: `taken_pixels` of an image tower, `taken_ids` of a text tower, which raise InvalidInput.

    Args:
        given: an array, or what numpy makes one of.
        size: of the images, in pixels.
        lengths: of the ids, in tokens; the longest last.
        words: size of the vocabulary.
    """
    try:
        values = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths, a tensor on a device
        what = "rows of one length, in this machine's memory"
        raise InvalidInput(f"the {tower} tower's input has to be {what}; {_maker(tower)}") from error
    return taken_pixels(values, size) if tower == "image" else taken_ids(values, lengths, words)


def taken_pixels(values: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.float32]:
    """RGB pixels float32 [N, 3, S, S] in [0, 1]; of float16 and float64 the nearest.

    Mean and std are applied inside the artifact. Values between the 256 levels of a byte are taken by every target;
    where an input can hold bytes only (Core ML's images) its runner takes the nearest level.

    Raises:
        InvalidInput: bytes or other integers, another shape, no image at all, NaN, infinite numbers, or values further
            outside [0, 1] than rounding leads.
    """
    _check_shape(values, (3, size, size), "pixels")
    if not np.issubdtype(values.dtype, np.floating):
        raise InvalidInput(f"pixels of type {values.dtype}; an image tower takes floats in [0, 1]: divide bytes by 255")
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("pixels that are NaN or infinite; an image tower takes floats in [0, 1]")
    rounding = max(ROUNDING, float(np.finfo(values.dtype).eps))  # type: ignore[type-var]
    if low < -rounding or high > 1 + rounding:
        raise InvalidInput(
            f"pixels from {low:.4g} to {high:.4g}; an image tower takes floats in [0, 1]: divide bytes by 255, and "
            "leave mean and std out, which stand inside"
        )
    return values.astype(np.float32, copy=False)


def taken_ids(values: npt.NDArray[np.generic], lengths: Sequence[int], words: int) -> npt.NDArray[np.int64]:
    """Token ids int64 [N, L], L one of the lengths; of any other integers the same.

    Raises:
        InvalidInput: floats or truth values, another shape, no text at all, or ids that are not of the vocabulary.
    """
    short = values.ndim == 2 and values.shape[1] in lengths
    _check_shape(values, values.shape[1:] if short else (lengths[-1],), "token ids")
    if not np.issubdtype(values.dtype, np.integer):
        raise InvalidInput(
            f"token ids of type {values.dtype}; a text tower takes integers, as the tokenizer gives them"
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= words:
        raise InvalidInput(f"token ids from {low} to {high}; the vocabulary has 0 to {words - 1}")
    return values.astype(np.int64, copy=False)


def _check_shape(values: npt.NDArray[np.generic], shape: tuple[int, ...], what: str) -> None:
    if values.shape[1:] != shape or not values.size:
        wanted = ", ".join(map(str, shape))
        made = _maker("image" if what == "pixels" else "text")
        raise InvalidInput(f"{what} of shape {list(values.shape)}; the model takes [N, {wanted}], N from 1 on; {made}")


def _maker(tower: TowerName) -> str:
    return "`preprocess` makes them of images" if tower == "image" else "`tokenize` makes them of texts"
