"""The fast path: 7 x 7 depthwise convolutions as an exact sum of three that XNNPACK has kernels for.

ExecuTorch runs XNNPACK, and so does LiteRT on a CPU.

XNNPACK's depthwise kernels take at most 25 taps; a larger window runs as an indirect GEMM, many times slower. The seven
rows of the window are dealt out to three convolutions, each symmetric about the centre row, so that torch's symmetric
padding fits all of them and nothing is padded, sliced or copied:

    rows 0 3 6    3 x 7, dilation (3, 1), padding (3, 3)
    rows 1 5      2 x 7, dilation (4, 1), padding (2, 3)
    rows 2 4      2 x 7, dilation (2, 1), padding (1, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.grids.decode import StoredWeight

T = TypeVar("T")

# Rows of the window -> the first, the step, how many; padding follows from where the first row stands.
BANDS = ((0, 3, 3), (1, 4, 2), (2, 2, 2))
KERNEL = 7
KERNEL_ROWS = tuple(tuple(range(first, first + step * rows, step)) for first, step, rows in BANDS)


def all_within(height: int, stride: int) -> bool:
    """Whether each band has a row that meets a map of this height."""
    last = (height - 1) // stride * stride  # the centre of the last window
    reaches = [[row - KERNEL // 2 for row in rows] for rows in KERNEL_ROWS]
    return all(any(last + reach >= 0 if reach < 0 else reach < height for reach in band) for band in reaches)


def in_bands(found: Iterable[Mapping[tuple[int, int], T]]) -> list[list[T]]:
    """Convolutions that are all the bands of one convolution, in the order of `BANDS`. `found`: the convolutions that
    take one input, by dilation and number of rows."""
    wanted = [(step, rows) for _, step, rows in BANDS]
    return [[bands[band] for band in wanted] for bands in found if set(bands) == set(wanted)]


def in_turn(parts: list[StoredWeight]) -> StoredWeight:
    """One weight [C * M, ...] of M with one output of each group, [C, ...]: the first of each, then the second."""
    count, rest = len(parts), parts[0].values.shape[1:]
    return _assembled(
        parts,
        lambda found: np.stack(found, axis=1).reshape(-1, *rest),
        lambda given, number: given[number::count],
    )


def joined(bands: list[StoredWeight]) -> StoredWeight:
    """One weight [C, 1, 7, 7] of the weights of its bands, [C, 1, rows, 7], as `in_bands` orders them."""

    def whole(found: list[Floats]) -> Floats:
        values = np.zeros((*found[0].shape[:2], KERNEL, KERNEL), np.float32)
        for rows, part in zip(KERNEL_ROWS, found, strict=True):
            values[:, :, rows] = part
        return values

    return _assembled(bands, whole, lambda given, index: given[:, :, KERNEL_ROWS[index]])


def _assembled(
    parts: list[StoredWeight], whole: Callable[[list[Floats]], Floats], cut: Callable[[Floats, int], Floats]
) -> StoredWeight:
    """The weight that parts are of: `whole` puts their numbers together, `cut` gives those of one part again."""

    def nearest(given: Floats) -> Floats:
        return whole([part.nearest(cut(given, number)) for number, part in enumerate(parts)])

    return replace(parts[0], values=whole([part.values for part in parts]), nearest=nearest)
