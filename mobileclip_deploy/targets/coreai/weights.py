"""The weights that stand in a program, restored, each with the grid that its scales or tables give it."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.coreai.asset import Asset, operations, tensor_type
from mobileclip_deploy.targets.grids.decode import (
    Affine,
    StoredWeight,
    Tables,
    as_float,
    on_grid,
    reshaped,
    spread,
    turned,
)

__all__ = ["RESTORED", "read_weights", "restored"]

SCALED, LOOKED_UP = "coreai.blockwise_shift_scale", "coreai.lut_to_dense"
RESTORED = (SCALED, LOOKED_UP)
TRANSPOSE, PRODUCT = "coreai.transpose", "coreai.decomposable.broadcasting_batch_matmul"
# The operand of an operation that holds its weight.
WEIGHTS = {"coreai.conv2d": 1, "coreai.gather_nd": 0, PRODUCT: 1}


def read_weights(asset: Asset, function: str | None = None) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, products and tables, once for each user, in torch's layout.

    Raises:
        InvalidInput: the program is damaged, or holds a weight in a form that no export writes.
    """
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
    # A product's is [..., inputs, outputs].
    return turned(reshaped(stored, *stored.values.shape[-2:]), 1, 0) if product else stored


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
        data, *blocks = parts
        scale, shift, offset = (spread(part.astype(np.float32), data.shape) for part in blocks)
        return on_grid(name, Affine(scale, kind.bits, shift, offset, signed=data.dtype.kind != "u"), data)
    indices, lut, _ = parts
    *groups, entries, width = lut.shape
    if width != 1 or entries != 2**kind.bits or len(groups) != indices.ndim:
        raise InvalidInput(f"{name}: tables {list(lut.shape)} of indices {list(indices.shape)}; no export writes such")
    return on_grid(name, Tables(lut[..., 0]), indices)


def _is_constant(value: Any) -> bool:
    return getattr(value.owner, "name", None) == "coreai.constant"


def _name(operation: Any) -> str:
    """The function's own text for a result: there are no names."""
    return str(operation.results[0].get_name())
