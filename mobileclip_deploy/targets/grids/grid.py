"""Grid of a stored weight: the values that it can hold, and its bytes in a file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Grid:
    """Values that a weight is rounded to: floats of `bits`, integers times a scale, or the entries of a table of
    2^bits.

    Attributes:
        axis: dimension of the torch weight with the outputs (rows of a look-up table). Each output has its own scales.
        block: number of inputs of an output that share a scale, with all of their kernel positions; the last block may
            be shorter. None: all inputs.
        low, high: ends of the integers' range. If they are not symmetric a scale may be negative, unless `positive`.
        positive: True if scales are above 0.
        bfloat16: True if scales are bfloat16.
        scale_bytes: bytes of one scale, with its zero point if the format stores one.
        group: number of outputs that share a table; None: one table for the weight.
        pruned: share of elements that are zero and stored as a bit mask.
    """

    bits: int
    kind: Literal["float", "integers", "table"] = "float"
    axis: int = 0
    block: int | None = None
    low: int = 0
    high: int = 0
    scale_bytes: int = 0
    group: int | None = None
    pruned: float = 0.0
    positive: bool = False
    bfloat16: bool = False

    def bytes(self, shape: Sequence[int]) -> int:
        """Returns the bytes of a weight of this shape in a file, with its scales or tables."""
        elements = math.prod(shape)
        stored = elements * self.bits / 8
        if self.kind == "float":
            return round(stored)
        outputs, inputs = shape[self.axis], shape[1 - self.axis]
        if self.kind == "integers":
            blocks = 1 if self.block is None else -(-inputs // self.block)
            return round(stored + outputs * blocks * self.scale_bytes)
        if self.pruned:
            stored = stored * (1 - self.pruned) + elements / 8
        tables = 1 if self.group is None else outputs // self.group
        return round(stored + tables * 2**self.bits * 2)  # entries are float16

    def describe(self) -> str:
        """Describes the grid in words: bits, and the elements that share a scale or table."""
        if self.kind == "float":
            return f"float{self.bits}"
        if self.kind == "integers":
            shared = "an output" if self.block is None else f"{self.block} inputs"
            return f"int{self.bits}, a scale {shared}"
        shared = "" if self.group is None else f" for {self.group} outputs"
        return f"{self.bits}-bit table{shared}" + (f", {self.pruned:.0%} zeros" if self.pruned else "")


def integers(bits: int, *, axis: int = 0, block: int | None = None, scale_bytes: int) -> Grid:
    """Returns a grid of symmetric integers: -127 ... 127 for 8 bits, -7 ... 7 for 4."""
    high = 2 ** (bits - 1) - 1
    return Grid(bits, "integers", axis, block, -high, high, scale_bytes=scale_bytes)
