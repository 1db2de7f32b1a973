"""Decoding of stored weights to float32, each with a function that rounds to its scales or tables."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Array, Floats


@dataclass(frozen=True)
class StoredWeight:
    """One weight as the file holds it.

    Attributes:
        name: name in the file, for messages.
        values: dequantized, float32, read-only, since they may be the file's own bytes. In torch's layout: [O, I], [O,
            I, KH, KW] or [rows, width]. A format's reader undoes a transpose or another layout.
        bits: bits of one element (32 and 16: floats).
        kind: as `Grid.kind`: "float", "integers" or "table".
        nearest: rounds elements of the same shape to the nearest values of the file's grid (its scales, zero points,
            tables), as float32.
    """

    name: str
    values: Floats
    bits: int
    kind: str
    nearest: Callable[[Floats], Floats]


def as_float(name: str, values: npt.NDArray[Any]) -> StoredWeight:
    """Returns a weight that is stored as float32 or float16."""
    dtype = values.dtype

    def nearest(numbers: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return numbers.astype(dtype, copy=False).astype(np.float32, copy=False)

    return StoredWeight(name, values.astype(np.float32, copy=False), values.dtype.itemsize * 8, "float", nearest)


@dataclass(frozen=True)
class Affine:
    """Integers of `bits`: `(integer - zero) * scale + base`, computed in float32 and rounded once to `dtype`.

    Attributes:
        scale, zero, base: of a shape that numpy broadcasts to that of the integers (see `spread`).
        signed: True if integers are -2^(bits-1) ... 2^(bits-1) - 1; otherwise they are 0 ... 2^bits - 1.
        steps: returns the distance of elements from `base` in steps of `scale`; None for `(element - base) / scale`.
            Set if its writer rounded another quotient, which may round a midpoint in the other direction.
    """

    scale: Array
    bits: int
    zero: Array | float = 0
    base: Array | float = 0
    signed: bool = True
    dtype: npt.DTypeLike = np.float32
    steps: Callable[[Floats], Floats] | None = None
    kind: Literal["integers"] = field(default="integers", init=False)

    def restored(self, stored: Array) -> Floats:
        """Dequantizes integers."""
        elements = (stored.astype(np.float32) - np.asarray(self.zero, np.float32)) * self.scale.astype(np.float32)
        elements = elements + np.asarray(self.base, np.float32)
        return elements.astype(self.dtype, copy=False).astype(np.float32, copy=False)

    def nearest(self, numbers: Floats) -> Floats:
        """Rounds elements to the nearest values that integers represent."""
        low = -(2 ** (self.bits - 1)) if self.signed else 0
        if self.steps is None:
            scale, away = self.scale.astype(np.float32), numbers - np.asarray(self.base, np.float32)
            steps = np.divide(away, scale, out=np.zeros_like(away), where=scale != 0)
        else:
            steps = self.steps(numbers)
        return self.restored(np.clip(np.rint(steps + np.asarray(self.zero, np.float32)), low, low + 2**self.bits - 1))


@dataclass(frozen=True)
class Tables:
    """Indices into tables of elements: `entries` [groups along each dimension of the indices, 2^bits]."""

    entries: Array
    kind: Literal["table"] = field(default="table", init=False)

    @property
    def bits(self) -> int:
        return self.entries.shape[-1].bit_length() - 1

    def restored(self, stored: Array) -> Floats:
        """Looks up the elements of indices."""
        return self._by_group(stored.shape, lambda table, part: table[stored[part]])

    def nearest(self, numbers: Floats) -> Floats:
        """Rounds elements to the nearest entries of their own group's table."""

        def fill(table: Floats, part: tuple[slice, ...]) -> Floats:
            ordered = np.sort(table)
            return ordered[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, numbers[part])]

        return self._by_group(numbers.shape, fill)

    def _by_group(self, shape: tuple[int, ...], fill: Callable[[Floats, tuple[slice, ...]], Floats]) -> Floats:
        result = np.empty(shape, np.float32)
        groups = self.entries.shape[:-1]
        sizes = [size // count for size, count in zip(shape, groups, strict=True)]
        for group in np.ndindex(*groups):
            part = tuple(slice(at * size, (at + 1) * size) for at, size in zip(group, sizes, strict=True))
            result[part] = fill(self.entries[group].astype(np.float32), part)
        return result


def on_grid(name: str, grid: Affine | Tables, stored: Array) -> StoredWeight:
    """Returns a weight that is stored as integers or indices."""
    return StoredWeight(name, grid.restored(stored), grid.bits, grid.kind, grid.nearest)


def spread(values: Array, shape: tuple[int, ...], block: int | None = None) -> Array:
    """Repeats the values of blocks for every element of their block. Single values are left for numpy to broadcast.

    Args:
        block: number of elements in a block, along the dimension with fewer values than elements; the last block may be
            shorter. None: blocks divide every dimension evenly.
    """
    for axis, size in enumerate(shape):
        if 1 < values.shape[axis] < size:
            repeated = np.repeat(values, block or size // values.shape[axis], axis=axis)
            values = repeated[(*[slice(None)] * axis, slice(size))]
    return values


def turned(stored: StoredWeight, *order: int) -> StoredWeight:
    """Returns a weight with permuted dimensions, in the order of `numpy.transpose`."""
    back = np.argsort(order)
    return replace(
        stored,
        values=stored.values.transpose(order),
        nearest=lambda numbers: stored.nearest(numbers.transpose(back)).transpose(order),
    )


def reshaped(stored: StoredWeight, *shape: int) -> StoredWeight:
    """Returns a weight in another shape."""
    original = stored.values.shape
    return replace(
        stored,
        values=stored.values.reshape(shape),
        nearest=lambda numbers: stored.nearest(numbers.reshape(original)).reshape(shape),
    )


def unpack_int4(packed: npt.NDArray[np.uint8], offset: int) -> npt.NDArray[np.int8]:
    """Unpacks the integers -8 ... 7 that `encode.pack_int4` packed with this offset: uint8 [..., M] to int8 [..., 2
    M]."""
    halves = np.stack((packed & 15, packed >> 4), axis=-1).reshape(*packed.shape[:-1], -1)
    return ((((halves.astype(np.int16) - offset) & 15) ^ 8) - 8).astype(np.int8)
