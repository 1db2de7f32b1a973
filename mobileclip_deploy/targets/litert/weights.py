"""Positions of the weights in a .tflite, and how each is dequantized."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.graph import Constant
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, as_float, on_grid, spread, turned
from mobileclip_deploy.targets.litert.model_file import INT4, ModelFile, ModelTensor, Operator, Quantized
from mobileclip_deploy.targets.weights import Depthwise, View, WeightTable, numbers_of

# Index of an operator's weight among its inputs; an embedding takes the ids first, but in float16 last.
PLACES = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "EMBEDDING_LOOKUP": 1, "GATHER": 0}


def weight_place(model: ModelFile, operator: Operator) -> int | None:
    """Returns the tensor index of an operator's weight, before a DEQUANTIZE if there is one. None if it has no weight,
    or the weight is computed."""
    if operator.type not in PLACES or len(operator.inputs) <= PLACES[operator.type]:
        return None
    index = operator.inputs[PLACES[operator.type]]
    restored = next((op for op in model.operators if op.type == "DEQUANTIZE" and index in op.outputs), None)
    index = index if restored is None else restored.inputs[0]
    return index if index >= 0 and model.tensors[index].values is not None else None


def _stored(view: View, number: int, name: str) -> StoredWeight | None:
    """Returns the weight of an operator, before a DEQUANTIZE if there is one; a look-up's ids are ignored."""
    node, where = view.nodes[number], name
    value = dict(node.inputs).get(name)
    maker = view.producer(value)
    if maker is not None and maker.type == "DEQUANTIZE":
        holder, where, value = maker, "input 0", dict(maker.inputs)["input 0"]
    else:
        holder = node
    if not isinstance(value, Constant):
        return None
    dtype, inputs = holder.settings[f"{where} type"], dict(holder.inputs)
    if f"{where} scale" not in inputs:
        if dtype not in ("float32", "float16"):
            raise Malformed(f"{value.name!r} is of {dtype} without a scale")
        stored = as_float(value.name, value.values)
    elif dtype in ("int8", INT4):
        parts = [numbers_of(inputs[f"{where} {what}"]) for what in ("scale", "zero point", "axis and block")]
        scale, zero, (axis, block) = (np.asarray(part) for part in parts)
        quantized = Quantized(scale, zero, int(axis), int(block) or None)
        stored = on_grid(value.name, _grid(value.values.shape, 4 if dtype == INT4 else 8, quantized), value.values)
    else:
        raise Malformed(f"{value.name!r} is of {dtype}")
    order = _ORDERS.get(node.type)
    if stored.values.ndim != (2 if order is None else 4):
        raise Malformed(f"{value.name!r} has the shape {list(stored.values.shape)}")
    return stored if order is None else turned(stored, *order)


TABLE = WeightTable(
    places={kind: (f"input {place}",) for kind, place in PLACES.items()},
    stored=_stored,
    depthwise=Depthwise("DEPTHWISE_CONV_2D", "dilation_h", "ADD", "CONCATENATION"),
)


def dequantized(tensor: ModelTensor) -> Floats:
    """Returns a tensor's elements in float32, in the stored layout."""
    assert tensor.values is not None
    if tensor.quantized is None:
        return tensor.values.astype(np.float32)
    return _grid(tensor.shape, 4 if tensor.dtype == INT4 else 8, tensor.quantized).restored(tensor.values)


def scale_and_zero(tensor: ModelTensor) -> tuple[Array, ...]:
    """Returns scale and zero point of a tensor's integers, in a shape that numpy broadcasts. Empty if it has none."""
    if tensor.quantized is None or tensor.dtype == "float32":
        return ()
    grid = _grid(tensor.shape, 8, tensor.quantized)
    return grid.scale, np.asarray(grid.zero)


def _grid(own: tuple[int, ...], bits: int, found: Quantized) -> Affine:
    if found.block is not None:
        return Affine(spread(found.scale, own, found.block), bits)
    shape = [1] * len(own)
    if len(found.scale) > 1:
        shape[found.axis] = len(found.scale)
    zero = found.zero_point
    return Affine(found.scale.reshape(shape), bits, zero.reshape(shape) if len(zero) > 1 else zero)


def in_torch_layout(operator: Operator, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns an operator's weight in torch's layout: [O, I] or [O, I, KH, KW]."""
    order = _ORDERS.get(operator.type)
    return values if order is None else np.ascontiguousarray(values.transpose(order))


# From the file's order of dimensions to torch's: [O, H, W, I], and [1, H, W, O].
_ORDERS = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}
