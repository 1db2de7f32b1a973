"""Constants as tensors: read from the file when they are needed, and kept as far as a budget of memory allows."""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.constants import Constant
from mobileclip_deploy.mil.graph import Fixed

_SMALL = 2**16  # bytes; such values are always kept


class ConstantStore:
    """Gives the tensors of constants.

    float32 weights are views of the file. float16 weights are converted to float32 for arithmetic, and compressed
    weights are decompressed; both cost time, so results are kept while they fit the budget, and made again otherwise.
    A compressed weight is kept in its declared type, since the conversion to float32 is the cheap part.
    """

    def __init__(self, budget: int) -> None:
        """`budget`: the bytes that may be kept."""
        self._left = budget
        self._kept: dict[tuple[int, bool], torch.Tensor] = {}

    def raw(self, value: Fixed) -> torch.Tensor:
        """The tensor as stored or decompressed: float16 as such.

        Raises:
            InvalidInput: it cannot be read or decompressed.
        """
        key = (id(value), False)
        if key in self._kept:
            return self._kept[key]
        tensor = value.tensor()
        if not isinstance(value, Constant):
            self._keep(key, tensor)
        return tensor

    def arithmetic(self, value: Fixed) -> torch.Tensor:
        """The tensor in the type for arithmetic: float16 in float32.

        Raises:
            InvalidInput: it cannot be read or decompressed.
        """
        key = (id(value), True)
        if key in self._kept:
            return self._kept[key]
        tensor = self.raw(value)
        if tensor.dtype == value.type.dtype.compute:
            return tensor
        converted = tensor.to(value.type.dtype.compute)
        if isinstance(value, Constant):
            self._keep(key, converted)
        return converted

    def _keep(self, key: tuple[int, bool], tensor: torch.Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if size > _SMALL:
            if size > self._left:
                return
            self._left -= size
        self._kept[key] = tensor
