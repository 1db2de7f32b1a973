"""The grid of a stored weight: which numbers it can hold, and what it takes in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Grid:
    """What a weight is rounded to: floats of `bits`, integers times a scale, or the entries of a table of 2^bits.

    Attributes:
        axis: the dimension of the torch weight with the outputs, each of which has scales of its own (of a look-up
            table the rows).
        block: so many inputs of an output share a scale, with all of their kernel positions; the last block may be
            shorter. None: all inputs.
        low, high: ends of the integers' range. Where they are not symmetric a scale may be negative, unless `positive`.
        positive: scales are above 0.
        bfloat16: scales are bfloat16 numbers.
        scale_bytes: of one scale, with its zero point where the format stores one.
        group: so many outputs share a table; None: one table for the weight.
        pruned: the share of numbers that are zero and stored as a bit mask.
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
        """What a weight of this shape takes in a file, with its scales or tables."""
        numbers = math.prod(shape)
        stored = numbers * self.bits / 8
        if self.kind == "float":
            return round(stored)
        outputs, inputs = shape[self.axis], shape[1 - self.axis]
        if self.kind == "integers":
            blocks = 1 if self.block is None else -(-inputs // self.block)
            return round(stored + outputs * blocks * self.scale_bytes)
        if self.pruned:
            stored = stored * (1 - self.pruned) + numbers / 8
        tables = 1 if self.group is None else outputs // self.group
        return round(stored + tables * 2**self.bits * 2)  # entries are float16

    def describe(self) -> str:
        """In words: bits, and what shares a scale or table."""
        if self.kind == "float":
            return f"float{self.bits}"
        if self.kind == "integers":
            shared = "an output" if self.block is None else f"{self.block} inputs"
            return f"int{self.bits}, a scale {shared}"
        shared = "" if self.group is None else f" for {self.group} outputs"
        return f"{self.bits}-bit table{shared}" + (f", {self.pruned:.0%} zeros" if self.pruned else "")


def integers(bits: int, *, axis: int = 0, block: int | None = None, scale_bytes: int) -> Grid:
    """Symmetric integers: -127 ... 127 for 8 bits, -7 ... 7 for 4."""
    high = 2 ** (bits - 1) - 1
    return Grid(bits, "integers", axis, block, -high, high, scale_bytes=scale_bytes)
