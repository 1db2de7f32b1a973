"""The weights of an artifact as they stand in the file, dequantized, each with the grid that the file gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["StoredWeight", "as_float"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredWeight:
    """One weight as the file holds it.

    Attributes:
        name: in the file, for messages.
        values: dequantized, float32, in torch's layout: [O, I], [O, I, KH, KW] or [rows, width]. Where a format holds
            a transpose or another layout, its reader turns it back.
        bits: that one number takes (32 and 16: floats).
        kind: as `targets.storage.Grid.kind`: "float", "integers" or "table".
        nearest: what the file's own grid (its scales, zero points, tables) can hold that is nearest to numbers of the
            same shape, as float32.
    """

    name: str
    values: Floats
    bits: int
    kind: str
    nearest: Callable[[Floats], Floats]


def as_float(name: str, values: npt.NDArray[Any]) -> StoredWeight:
    """A weight that stands there as float32 or float16."""
    dtype = values.dtype

    def nearest(numbers: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return numbers.astype(dtype).astype(np.float32)

    return StoredWeight(name, values.astype(np.float32), values.dtype.itemsize * 8, "float", nearest)
