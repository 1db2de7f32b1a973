"""Validation of a tower's inputs, the same for every target: invalid inputs are refused."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName

# Largest distance from [0, 1] after a resize in float32; in float16 the format's own steps are larger.
ROUNDING = 1e-5


def validated_inputs(
    given: object, tower: TowerName, size: int, lengths: Sequence[int], words: int
) -> npt.NDArray[np.generic]:
    """Validates the input of a tower: by `taken_pixels` or `taken_ids`, which raise InvalidInput.

    Args:
        given: an array, or something that numpy converts to one.
        size: of the images, in pixels.
        lengths: of the ids, in tokens; the longest last.
        words: size of the vocabulary.
    """
    try:
        values = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths, a tensor on a device
        requirement = "an array of rows of one length, in this machine's memory"
        raise InvalidInput(f"the {tower} tower's input has to be {requirement}; {_maker(tower)}") from error
    return taken_pixels(values, size) if tower == "image" else taken_ids(values, lengths, words)


def taken_pixels(values: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.float32]:
    """Returns RGB pixels as float32 [N, 3, S, S] in [0, 1]; float16 and float64 are converted to the nearest.

    Mean and std are applied inside the artifact. Every target takes values between the 256 levels of a byte. If an
    input can only be bytes (Core ML's images), its runner takes the nearest level.

    Raises:
        InvalidInput: bytes or other integers, another shape, no image at all, NaN, infinite values, or values further
            outside [0, 1] than by rounding.
    """
    _check_shape(values, (3, size, size), "pixels")
    if not np.issubdtype(values.dtype, np.floating):
        raise InvalidInput(f"pixels are {values.dtype}; an image tower takes floats in [0, 1]: divide bytes by 255")
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("pixels are NaN or infinite; an image tower takes floats in [0, 1]")
    rounding = max(ROUNDING, float(np.finfo(values.dtype).eps))  # type: ignore[type-var]
    if low < -rounding or high > 1 + rounding:
        raise InvalidInput(
            f"pixels range from {low:.4g} to {high:.4g}; an image tower takes floats in [0, 1]: divide bytes by 255, "
            "and do not apply mean and std, which the graph contains"
        )
    return values.astype(np.float32, copy=False)


def taken_ids(values: npt.NDArray[np.generic], lengths: Sequence[int], words: int) -> npt.NDArray[np.int64]:
    """Returns token ids as int64 [N, L], L one of the lengths; other integers are converted.

    Raises:
        InvalidInput: floats or truth values, another shape, no text at all, or ids that are not in the vocabulary.
    """
    short = values.ndim == 2 and values.shape[1] in lengths
    _check_shape(values, values.shape[1:] if short else (lengths[-1],), "token ids")
    if not np.issubdtype(values.dtype, np.integer):
        raise InvalidInput(f"token ids are {values.dtype}; a text tower takes integers from the tokenizer")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= words:
        raise InvalidInput(f"token ids range from {low} to {high}; the vocabulary has 0 to {words - 1}")
    return values.astype(np.int64, copy=False)


def _check_shape(values: npt.NDArray[np.generic], shape: tuple[int, ...], what: str) -> None:
    if values.shape[1:] != shape or not values.size:
        expected = ", ".join(map(str, shape))
        made = _maker("image" if what == "pixels" else "text")
        raise InvalidInput(
            f"{what} of shape {list(values.shape)}; the model takes [N, {expected}], N from 1 on; {made}"
        )


def _maker(tower: TowerName) -> str:
    return "`preprocess` converts images" if tower == "image" else "`tokenize` converts texts"
