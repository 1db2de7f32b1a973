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
from typing import TypeVar

import numpy as np

from mobileclip_deploy.targets.grids.decode import Floats, StoredWeight

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
    first, count = parts[0], len(parts)

    def whole(part: Callable[[int], Floats]) -> Floats:
        return np.stack([part(number) for number in range(count)], axis=1).reshape(-1, *first.values.shape[1:])

    def nearest(given: Floats) -> Floats:
        return whole(lambda number: parts[number].nearest(given[number::count]))

    return StoredWeight(first.name, whole(lambda number: parts[number].values), first.bits, first.kind, nearest)


def joined(bands: list[StoredWeight]) -> StoredWeight:
    """One weight [C, 1, 7, 7] of the weights of its bands, [C, 1, rows, 7], as `in_bands` orders them."""
    first = bands[0]
    places = [slice(start, start + step * (rows - 1) + 1, step) for start, step, rows in BANDS]

    def whole(parts: Callable[[int], Floats]) -> Floats:
        values = np.zeros((*first.values.shape[:2], KERNEL, KERNEL), np.float32)
        for index, rows in enumerate(places):
            values[:, :, rows] = parts(index)
        return values

    def nearest(given: Floats) -> Floats:
        return whole(lambda index: bands[index].nearest(given[:, :, places[index]]))

    return StoredWeight(first.name, whole(lambda index: bands[index].values), first.bits, first.kind, nearest)
