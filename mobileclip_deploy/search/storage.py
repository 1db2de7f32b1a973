"""How one unit-length embedding is stored in an index: float32, float16, int8 of one scale, or its sign bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.arguments import StoreName
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.spaces.int8 import integers_of

STORES: tuple[str, ...] = get_args(StoreName)
CODES = {name: number for number, name in enumerate(STORES, 1)}
"""The number of each store in an index's header (docs/index_format.md)."""
BITS = ("bits", "bits-only")


@dataclass(frozen=True)
class Store:
    """How vectors of `dimension` numbers are stored.

    Attributes:
        name: one of `STORES`. `bits` holds int8 integers too, by which the best are scored again.
        dimension: numbers per vector, D.
        scale: a stored int8 integer times this is the component; 0.0 where no integers are stored.
    """

    name: str
    dimension: int
    scale: float = 0.0

    @property
    def arrays(self) -> dict[str, tuple[npt.DTypeLike, int]]:
        """What a block holds for each row, in order: dtype and columns."""
        bits: dict[str, tuple[npt.DTypeLike, int]] = {"bits": (np.uint8, (self.dimension + 7) // 8)}
        integers: dict[str, tuple[npt.DTypeLike, int]] = {"int8": (np.int8, self.dimension)}
        if self.name in BITS:
            return bits if self.name == "bits-only" else bits | integers
        return integers if self.name == "int8" else {self.name: (np.dtype(self.name).newbyteorder("<"), self.dimension)}

    def encode(self, vectors: Floats) -> tuple[dict[str, npt.NDArray[Any]], int]:
        """Unit-length vectors [N, D] as the arrays of a block, and how many components the scale clipped."""
        found: dict[str, npt.NDArray[Any]] = {}
        clipped = 0
        for kind, (dtype, _) in self.arrays.items():
            if kind == "bits":  # 1 where a component is 0 or more, the first component in the lowest bit
                found[kind] = np.packbits(vectors >= 0, axis=1, bitorder="little")
            elif kind == "int8":
                found[kind], clipped = integers_of(vectors, self.scale)
            else:
                found[kind] = vectors.astype(dtype)
        return found, clipped

    def decode(self, arrays: dict[str, npt.NDArray[Any]]) -> Floats:
        """Arrays of a block as vectors [N, D] float32; sign bits alone as -1 and 1 over the square root of D."""
        if "int8" in arrays:
            return arrays["int8"].astype(np.float32) * np.float32(self.scale)
        if "bits" in arrays:
            return signs(arrays["bits"], self.dimension) / np.float32(np.sqrt(self.dimension))
        return arrays[self.name].astype(np.float32)


def signs(bits: npt.NDArray[np.uint8], dimension: int) -> Floats:
    """-1 and 1, float32 [N, D], of sign bits."""
    return np.unpackbits(bits, axis=1, count=dimension, bitorder="little").astype(np.float32) * 2 - 1
