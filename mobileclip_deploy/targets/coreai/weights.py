"""Locations of the weights of an .aimodel, and their decoding."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import Malformed, reraising
from mobileclip_deploy.targets.coreai.asset import Asset, tensor_type
from mobileclip_deploy.targets.graph import Constant
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
from mobileclip_deploy.targets.weights import View, WeightTable

SCALED, LOOKED_UP = "blockwise_shift_scale", "lut_to_dense"
RESTORED = (SCALED, LOOKED_UP)
PRODUCT = "decomposable.broadcasting_batch_matmul"


def _stored(view: View, number: int, name: str) -> StoredWeight | None:
    """Returns a weight of an operation. A product takes [..., inputs, outputs]: a transpose before it, of [outputs,
    inputs], is undone by leaving it out."""
    node = view.nodes[number]
    value, product = dict(node.inputs)[name], node.type == PRODUCT
    producer = view.producer(value)
    if product and producer is not None and producer.type == "transpose":
        operands = dict(producer.inputs)
        order = operands["operand 1"]
        if isinstance(order, Constant) and order.values.tolist() == [1, 0]:
            value, product = operands["operand 0"], False
            producer = view.producer(value)
    if producer is not None and producer.type in RESTORED:
        parts = [part.values for _, part in producer.inputs if isinstance(part, Constant)]
        bits = int(re.sub(r"\D", "", producer.settings["operands"].partition(" ")[0]))
        stored = _restored(producer.name, producer.type, parts, len(producer.inputs), bits)
    elif isinstance(value, Constant) and value.values.dtype in (np.float32, np.float16):
        stored = as_float(value.name, value.values)
    else:
        return None
    if not product or stored.values.ndim < 2:
        return stored
    return turned(reshaped(stored, *stored.values.shape[-2:]), 1, 0)


TABLE = WeightTable(
    places={"conv2d": ("operand 1",), "gather_nd": ("operand 0",), PRODUCT: ("operand 1",)}, stored=_stored
)


def restored(asset: Asset, operation: Any) -> StoredWeight:
    """Decodes the weight that an operation of a program restores. Its name is the one in the program's text, since
    there are no others."""
    constants = [value.owner for value in operation.operands if getattr(value.owner, "name", None) == "coreai.constant"]
    parts = [asset.numbers(constant) for constant in constants]
    name, kind = str(operation.results[0].get_name()), operation.name.removeprefix("coreai.")
    with reraising(f"{asset.path}: a weight in a form that exports never write", ValueError):
        return _restored(name, kind, parts, len(operation.operands), tensor_type(operation.operands[0]).bits)


def _restored(name: str, kind: str, parts: Sequence[Array], count: int, bits: int) -> StoredWeight:
    """Decodes a weight from its parts, `count` of them, which must be constants."""
    if len(parts) < count:
        raise Malformed(f"{name} is restored from computed values")
    if kind == SCALED:
        data, *blocks = parts
        scale, shift, offset = (spread(part.astype(np.float32), data.shape) for part in blocks)
        return on_grid(name, Affine(scale, bits, shift, offset, signed=data.dtype.kind != "u"), data)
    indices, lut, _ = parts
    *groups, entries, width = lut.shape
    if width != 1 or entries != 2**bits or len(groups) != indices.ndim:
        raise Malformed(f"{name}: tables {list(lut.shape)} of indices {list(indices.shape)}")
    return on_grid(name, Tables(lut[..., 0]), indices)
