"""Fast 7 x 7 depthwise convolutions: an exact sum of three convolutions that XNNPACK has kernels for.

ExecuTorch runs XNNPACK, and LiteRT does on a CPU.

XNNPACK's depthwise kernels take at most 25 taps; a larger window runs as an indirect GEMM, many times slower. The
window's seven rows are divided among three convolutions, each symmetric about the centre row. Torch's symmetric padding
then fits all of them, and nothing is padded, sliced or copied:

    rows 0 3 6    3 x 7, dilation (3, 1), padding (3, 3)
    rows 1 5      2 x 7, dilation (4, 1), padding (2, 3)
    rows 2 4      2 x 7, dilation (2, 1), padding (1, 3)
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.grids.decode import StoredWeight

T = TypeVar("T")

# First row of the window, step and number of rows of each band; the padding follows from the first row.
BANDS = ((0, 3, 3), (1, 4, 2), (2, 2, 2))
KERNEL = 7
KERNEL_ROWS = tuple(tuple(range(first, first + step * rows, step)) for first, step, rows in BANDS)


def all_within(height: int, stride: int) -> bool:
    """Returns whether each band of kernel rows overlaps a feature map of this height at some position."""
    last = (height - 1) // stride * stride  # the centre of the last window
    reaches = [[row - KERNEL // 2 for row in rows] for rows in KERNEL_ROWS]
    return all(any(last + reach >= 0 if reach < 0 else reach < height for reach in band) for band in reaches)


def in_bands(found: Iterable[Mapping[tuple[int, int], T]]) -> list[list[T]]:
    """Returns groups of convolutions that together are all bands of one convolution, in the order of `BANDS`.

    Args:
        found: for each input, the convolutions that take it, by dilation and number of rows.
    """
    order = [(step, rows) for _, step, rows in BANDS]
    return [[bands[band] for band in order] for bands in found if set(bands) == set(order)]


def in_turn(parts: list[StoredWeight]) -> StoredWeight:
    """Interleaves M weights [C, ...], each with one output per group, into one weight [C * M, ...]: the first output of
    every weight, then the second."""
    count, rest = len(parts), parts[0].values.shape[1:]
    return _assembled(
        parts,
        lambda found: np.stack(found, axis=1).reshape(-1, *rest),
        lambda given, number: given[number::count],
    )


def joined(bands: list[StoredWeight]) -> StoredWeight:
    """Combines the weights [C, 1, rows, 7] of the bands, ordered as by `in_bands`, into one weight [C, 1, 7, 7]."""

    def whole(found: list[Floats]) -> Floats:
        values = np.zeros((*found[0].shape[:2], KERNEL, KERNEL), np.float32)
        for rows, part in zip(KERNEL_ROWS, found, strict=True):
            values[:, :, rows] = part
        return values

    return _assembled(bands, whole, lambda given, index: given[:, :, KERNEL_ROWS[index]])


def _assembled(
    parts: list[StoredWeight], whole: Callable[[list[Floats]], Floats], cut: Callable[[Floats, int], Floats]
) -> StoredWeight:
    """Returns the weight that the parts make up: `whole` joins their elements, `cut` extracts those of one part."""

    def nearest(given: Floats) -> Floats:
        return whole([part.nearest(cut(given, index)) for index, part in enumerate(parts)])

    return replace(parts[0], values=whole([part.values for part in parts]), nearest=nearest)
