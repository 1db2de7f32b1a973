"""The weights that stand in a program, restored, each with the grid that its scales or tables give it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.coreai.asset import Asset, operations, tensor_type
from mobileclip_deploy.targets.storage import StoredWeight, as_float

__all__ = ["RESTORED", "read_weights", "restored"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

SCALED, LOOKED_UP = "coreai.blockwise_shift_scale", "coreai.lut_to_dense"
RESTORED = (SCALED, LOOKED_UP)
TRANSPOSE, PRODUCT = "coreai.transpose", "coreai.decomposable.broadcasting_batch_matmul"
# The operand of an operation that holds its weight.
WEIGHTS = {"coreai.conv2d": 1, "coreai.gather_nd": 0, PRODUCT: 1}


def read_weights(path: Path, function: str | None = None) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, products and tables, once for each user, in torch's layout.

    Raises:
        InvalidInput: the program is damaged, or holds a weight in a form that no export writes.
    """
    asset = Asset(path)
    found = []
    for operation in operations(asset.function(function)):
        place = WEIGHTS.get(operation.name)
        if place is None:
            continue
        weight = _weight(asset, operation.operands[place], product=operation.name == PRODUCT)
        if weight is not None and weight.values.ndim > 1:
            found.append(weight)
    return tuple(found)


def _weight(asset: Asset, value: Any, *, product: bool) -> StoredWeight | None:
    """What an operand is made of where that is known before anything runs; None where it is computed.

    A product takes [inputs, outputs]: a transpose before it, of [outputs, inputs], is undone by leaving it out.
    """
    owner = value.owner
    if not hasattr(owner, "name"):  # an argument of the function
        return None
    if owner.name == TRANSPOSE and product:
        order = owner.operands[1].owner
        if order.name == "coreai.constant" and asset.numbers(order).tolist() == [1, 0]:
            return _weight(asset, owner.operands[0], product=False)
    if owner.name in RESTORED:
        stored = restored(asset, owner)
    elif owner.name == "coreai.constant" and tensor_type(value).dtype in ("float32", "float16"):
        stored = as_float(_name(owner), asset.numbers(owner))
    else:
        return None
    return _turned(stored) if product else stored


def _turned(stored: StoredWeight) -> StoredWeight:
    """A product's weight [..., inputs, outputs] as [outputs, inputs]."""
    shape = stored.values.shape

    def nearest(numbers: Floats) -> Floats:
        return stored.nearest(numbers.T.reshape(shape)).reshape(shape[-2:]).T

    return replace(stored, values=stored.values.reshape(shape[-2:]).T, nearest=nearest)


def restored(asset: Asset, operation: Any) -> StoredWeight:
    """The weight that an operation restores.

    Raises:
        InvalidInput: it is in a form that no export writes.
    """
    name = _name(operation)
    if not all(_is_constant(operand) for operand in operation.operands):
        raise InvalidInput(f"{asset.path}: {name} restores a weight from what is computed, which no export writes")
    parts = [asset.numbers(operand.owner) for operand in operation.operands]
    kind = tensor_type(operation.operands[0])
    if operation.name == SCALED:
        data, scale, shift, offset = parts
        return _integers(name, data, kind.bits, scale, shift, offset)
    indices, lut, _ = parts
    return _table(name, indices, kind.bits, lut)


def _integers(name: str, data: Array, bits: int, scale: Array, shift: Array, offset: Array) -> StoredWeight:
    """`(data - shift) * scale + offset`, each number of the last three for a block of the first."""
    steps, zero, base = (_spread(part.astype(np.float32), data.shape) for part in (scale, shift, offset))
    low, high = (0, 2**bits - 1) if data.dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def nearest(numbers: Floats) -> Floats:
        found = np.divide(numbers - base, steps, out=np.zeros_like(numbers), where=steps != 0)
        integers = np.clip(np.rint(found + zero), low, high)
        return ((integers - zero) * steps + base).astype(np.float32)

    values = (data.astype(np.float32) - zero) * steps + base
    return StoredWeight(name, values, bits, "integers", nearest)


def _table(name: str, indices: Array, bits: int, lut: Array) -> StoredWeight:
    """`lut`: [groups in each dimension of the indices, 2^bits, 1]."""
    *groups, entries, width = lut.shape
    if width != 1 or entries != 2**bits or len(groups) != indices.ndim:
        raise InvalidInput(f"{name}: tables {list(lut.shape)} of indices {list(indices.shape)}; no export writes such")
    tables = lut[..., 0].astype(np.float32)

    def by_group(result: Floats, fill: Callable[[Floats, tuple[slice, ...]], Floats]) -> Floats:
        sizes = [size // count for size, count in zip(indices.shape, groups, strict=True)]
        for group in np.ndindex(*groups):
            part = tuple(slice(at * size, (at + 1) * size) for at, size in zip(group, sizes, strict=True))
            result[part] = fill(tables[group], part)
        return result

    def nearest(numbers: Floats) -> Floats:
        def fill(table: Floats, part: tuple[slice, ...]) -> Floats:
            ordered = np.sort(table)
            return ordered[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, numbers[part])]

        return by_group(np.empty_like(numbers), fill)

    values = by_group(np.empty(indices.shape, np.float32), lambda table, part: table[indices[part]])
    return StoredWeight(name, values, bits, "table", nearest)


def _spread(values: Floats, shape: tuple[int, ...]) -> Floats:
    """One value a block, repeated for each number of its block."""
    for axis, size in enumerate(shape):
        if 1 < values.shape[axis] < size:  # a single one is broadcast
            values = np.repeat(values, size // values.shape[axis], axis=axis)
    return values


def _is_constant(value: Any) -> bool:
    return getattr(value.owner, "name", None) == "coreai.constant"


def _name(operation: Any) -> str:
    """The function's own text for a result: there are no names."""
    return str(operation.results[0].get_name())
