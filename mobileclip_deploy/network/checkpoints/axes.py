"""Axes of an embedding space, and the file that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.tensors import read_tensors, write_tensors
from mobileclip_deploy.errors import REASON, InvalidInput, reraising
from mobileclip_deploy.network.model.provenance import tensors_sha256

UPRIGHT = 1e-5
"""Largest difference of the axes' products from 0 and 1: rounding to float32 moves them by 1e-7."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Orthonormal axes of an embedding space, float32 [D, N], one per column: an embedding [D] times them is [N].

    Raises:
        InvalidInput: they are not orthonormal, or of another shape or dtype.
    """

    matrix: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        matrix = self.matrix
        if matrix.ndim != 2 or matrix.dtype != np.float32 or not 0 < matrix.shape[1] <= matrix.shape[0]:
            raise InvalidInput(f"axes are float32 [D, N] with N at most D, and these are {matrix.dtype} {matrix.shape}")
        wide = matrix.astype(np.float64)
        off = np.abs(wide.T @ wide - np.eye(matrix.shape[1])).max()
        if not off <= UPRIGHT:  # NaN fails, too
            raise InvalidInput(f"the axes are not orthonormal: their products are off by {off:.1g}")

    @property
    def full_size(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def size(self) -> int:
        return int(self.matrix.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Hash of the axes' values, the same in every file that holds them."""
        return tensors_sha256({"axes": self.matrix})

    def save(self, path: Path) -> None:
        """Writes the axes as safetensors: `axes` float32 [D, N].

        Raises:
            InvalidInput: the file cannot be written.
        """
        write_tensors(path, {"axes": self.matrix}, {})

    @classmethod
    def read(cls, path: Path) -> Axes:
        """Reads a file of `save`.

        Raises:
            InvalidInput: it cannot be read, or holds no orthonormal axes.
        """
        refusal = f"{path} cannot be read: {REASON}; export the bundle again"
        tensors, _ = read_tensors(path, refusal)
        with reraising(refusal, KeyError):
            matrix = tensors["axes"]
        try:
            return cls(matrix)
        except InvalidInput as error:
            raise InvalidInput(f"{path} is damaged: {error}; export the bundle again") from None
