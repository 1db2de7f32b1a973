"""Storage formats of a unit-length embedding in an index: float32, float16, int8 with one scale, or sign bits."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.arguments import StoreName
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.spaces.int8 import integers_of

STORES: tuple[str, ...] = get_args(StoreName)
CODES = {name: number for number, name in enumerate(STORES, 1)}
"""Number of each store in an index's header (docs/index_format.md)."""
BITS = ("bits", "bits-only")


@dataclass(frozen=True)
class Store:
    """Storage format of vectors of `dimension` elements.

    Attributes:
        name: one of `STORES`. `bits` also contains int8 integers, for re-ranking.
        dimension: elements per vector, D.
        scale: a stored int8 integer times this is the component; 0.0 for formats without integers.
    """

    name: str
    dimension: int
    scale: float = 0.0

    @property
    def arrays(self) -> dict[str, tuple[npt.DTypeLike, int]]:
        """Arrays of a block, in order: dtype and columns per row."""
        bits: dict[str, tuple[npt.DTypeLike, int]] = {"bits": (np.uint8, (self.dimension + 7) // 8)}
        integers: dict[str, tuple[npt.DTypeLike, int]] = {"int8": (np.int8, self.dimension)}
        if self.name in BITS:
            return bits if self.name == "bits-only" else bits | integers
        return integers if self.name == "int8" else {self.name: (np.dtype(self.name).newbyteorder("<"), self.dimension)}

    def encode(self, vectors: Floats) -> tuple[dict[str, npt.NDArray[Any]], int]:
        """Returns unit-length vectors [N, D] as the arrays of a block, and the number of components that the scale
        clipped."""
        encoded: dict[str, npt.NDArray[Any]] = {}
        clipped = 0
        for kind, (dtype, _) in self.arrays.items():
            if kind == "bits":  # 1 where a component is 0 or more, the first component in the lowest bit
                encoded[kind] = np.packbits(vectors >= 0, axis=1, bitorder="little")
            elif kind == "int8":
                encoded[kind], clipped = integers_of(vectors, self.scale)
            else:
                encoded[kind] = vectors.astype(dtype)
        return encoded, clipped

    def decode(self, arrays: dict[str, npt.NDArray[Any]]) -> Floats:
        """Returns the arrays of a block as vectors [N, D] float32. Sign bits alone become -1 and 1 over the square root
        of D."""
        if "int8" in arrays:
            return arrays["int8"].astype(np.float32) * np.float32(self.scale)
        if "bits" in arrays:
            return signs(arrays["bits"], self.dimension) / np.float32(np.sqrt(self.dimension))
        return arrays[self.name].astype(np.float32)


def signs(bits: npt.NDArray[np.uint8], dimension: int) -> Floats:
    """Returns sign bits as -1 and 1, float32 [N, D]."""
    return np.unpackbits(bits, axis=1, count=dimension, bitorder="little").astype(np.float32) * 2 - 1
