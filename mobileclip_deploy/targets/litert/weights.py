"""The weights that stand in a .tflite, dequantized, in torch's layout, each with the grid that the file gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.depthwise import KERNEL, in_bands, in_turn, joined
from mobileclip_deploy.targets.grids.decode import Affine, Floats, StoredWeight, as_float, on_grid, spread, turned
from mobileclip_deploy.targets.litert.model_file import INT4, ModelFile, Operator, Quantized, StoredTensor

__all__ = ["PLACES", "dequantized", "in_torch_layout", "output_axis", "read_weights", "stored_weight", "weight_place"]

# Where the weight of an operator is among its inputs; an embedding takes the ids first, but in float16 last.
PLACES = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "EMBEDDING_LOOKUP": 1, "GATHER": 0}


def weight_place(model: ModelFile, operator: Operator) -> int | None:
    """The tensor that is an operator's weight, behind a DEQUANTIZE where there is one; None where it has none, or it is
    computed."""
    if operator.type not in PLACES or len(operator.inputs) <= PLACES[operator.type]:
        return None
    place = operator.inputs[PLACES[operator.type]]
    restored = next((one for one in model.operators if one.type == "DEQUANTIZE" and place in one.outputs), None)
    place = place if restored is None else restored.inputs[0]
    return place if place >= 0 and model.tensors[place].values is not None else None


def read_weights(model: ModelFile, path: Path) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, products and tables; a 7 x 7 convolution that was dealt out is one weight.

    Raises:
        InvalidInput: the file is damaged, or holds a weight in a form that no export writes.
    """
    found: dict[int, StoredWeight] = {}
    for number, operator in enumerate(model.operators):
        place = weight_place(model, operator)
        if place is not None:
            found[number] = _turned(operator, stored_weight(model.tensors[place], path), path)
    sums: dict[int, int] = {}  # what bands add up to -> the first of them
    for total, bands in _banded(model, found).items():
        sums[total] = bands[0]
        found[bands[0]] = joined([found.pop(number) for number in bands])
    for one in model.operators:
        parts = [sums[place] for place in one.inputs if place in sums]
        alike = len({found[number].values.shape for number in parts}) == 1
        if one.type == "CONCATENATION" and len(set(parts)) == len(one.inputs) and alike:
            found[parts[0]] = in_turn([found.pop(number) for number in parts])
    return tuple(found[number] for number in sorted(found))


def _banded(model: ModelFile, found: dict[int, StoredWeight]) -> dict[int, list[int]]:
    """Convolutions that are the bands of a 7 x 7 one, by the tensor that is their sum."""
    given = {place: number for number in found for place in model.operators[number].outputs}
    added = {one.outputs[0]: one.inputs for one in model.operators if one.type == "ADD"}
    banded = {}
    for total, (both, *third) in added.items():  # (first + second) + third
        bands = {}
        for number in (given[place] for place in (*added.get(both, ()), *third) if place in given):
            shape = found[number].values.shape  # [O, 1, rows, columns]
            if model.operators[number].type == "DEPTHWISE_CONV_2D" and shape[3] == KERNEL:
                bands[model.operators[number].settings["dilation_h"], shape[2]] = number
        for ordered in in_bands([bands]):
            if len({len(found[number].values) for number in ordered}) == 1:
                banded[total] = ordered
    return banded


def stored_weight(tensor: StoredTensor, path: Path) -> StoredWeight:
    """A tensor of numbers, in the layout in which it stands."""
    assert tensor.values is not None
    if tensor.quantized is None:
        if tensor.dtype not in ("float32", "float16"):
            raise InvalidInput(f"{path}: the weight {tensor.name!r} is of {tensor.dtype} without a scale")
        return as_float(tensor.name, tensor.values)
    if tensor.dtype not in ("int8", INT4):
        raise InvalidInput(f"{path}: the weight {tensor.name!r} is of {tensor.dtype}, which no export writes")
    return on_grid(tensor.name, _grid(tensor, tensor.quantized), tensor.values)


def dequantized(tensor: StoredTensor) -> Floats:
    """The numbers of a tensor in float32, in the layout in which they stand."""
    assert tensor.values is not None
    if tensor.quantized is None:
        return tensor.values.astype(np.float32)
    return _grid(tensor, tensor.quantized).restored(tensor.values)


def _grid(tensor: StoredTensor, found: Quantized) -> Affine:
    """The grid of a tensor of integers."""
    bits = 4 if tensor.dtype == INT4 else 8
    if found.block is not None:
        return Affine(spread(found.scale, tensor.shape, found.block), bits)
    shape = [1] * len(tensor.shape)
    if len(found.scale) > 1:
        shape[found.axis] = len(found.scale)
    zero = found.zero_point
    return Affine(found.scale.reshape(shape), bits, zero.reshape(shape) if len(zero) > 1 else zero)


def output_axis(operator: Operator) -> int:
    """The dimension of an operator's weight, as it stands, with the outputs."""
    return 3 if operator.type == "DEPTHWISE_CONV_2D" else 0


def in_torch_layout(operator: Operator, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An operator's weight as torch has it: [O, I] or [O, I, KH, KW]."""
    there = _ORDERS.get(operator.type)
    return values if there is None else np.ascontiguousarray(values.transpose(there))


# From the file's order of dimensions to torch's: [O, H, W, I], and [1, H, W, O].
_ORDERS = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}


def _turned(operator: Operator, stored: StoredWeight, path: Path) -> StoredWeight:
    if stored.values.ndim != (4 if operator.type in _ORDERS else 2):
        raise InvalidInput(f"{path}: the weight {stored.name!r} has the shape {list(stored.values.shape)}")
    if operator.type not in _ORDERS:
        return stored
    return turned(stored, *_ORDERS[operator.type])
