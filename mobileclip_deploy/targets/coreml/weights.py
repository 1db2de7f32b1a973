"""The weights that stand in a package, decompressed, each with the grid that its scales or tables give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil import load
from mobileclip_deploy.mil.constants import Constant
from mobileclip_deploy.mil.constexpr import Decompressed
from mobileclip_deploy.mil.graph import Fixed, Node, Reference
from mobileclip_deploy.targets.coreml.reading import read_graph
from mobileclip_deploy.targets.graph import needed
from mobileclip_deploy.targets.quiet import quiet
from mobileclip_deploy.targets.storage import StoredWeight, as_float

__all__ = ["read_weights"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Nearest = Callable[[Floats], Floats]
# The input of an operation that holds its weight; a product's may be its first.
WEIGHTS = {"conv": ("weight",), "linear": ("weight",), "gather": ("x",), "matmul": ("x", "y")}


def read_weights(path: Path, function: str | None = None) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, linear layers, products and tables that the outputs need, once for each user.

    A `matmul`'s are given as a linear layer's: [outputs, inputs].

    Raises:
        InvalidInput: the package is damaged, or holds a weight in a form that no export writes.
    """
    with quiet():
        program = load(path, function, evaluate=False)
    found = []
    for number in needed(read_graph(path, function)):
        for name, value, transposed in _weights(program.graph.nodes[number]):
            found.append(_stored(name, value, transposed))
    return tuple(found)


def _weights(node: Node) -> Iterator[tuple[str, Fixed, bool]]:
    """The weights of an operation: name, value, and whether they stand there with inputs first."""
    for parameter in WEIGHTS.get(node.kind, ()):
        (name, operand), *_ = node.operands[parameter]
        if isinstance(operand, Reference) or len(operand.type.shape) < 2:
            continue
        inputs_first = node.kind == "matmul" and _is_set(node, f"transpose_{parameter}") == (parameter == "x")
        yield name or node.name, operand, inputs_first


def _is_set(node: Node, parameter: str) -> bool:
    bound = node.operands.get(parameter, ())
    return any(not isinstance(operand, Reference) and bool(operand.array()) for _, operand in bound)


def _stored(name: str, value: Fixed, transposed: bool) -> StoredWeight:
    if isinstance(value, Constant):
        stored = as_float(name, value.array())
    else:
        bits, kind, nearest = _grid(value)
        stored = StoredWeight(name, value.array().astype(np.float32), bits, kind, nearest)
    if not transposed:
        return stored
    return StoredWeight(
        name,
        stored.values.swapaxes(-1, -2),
        stored.bits,
        stored.kind,
        lambda numbers: stored.nearest(numbers.swapaxes(-1, -2)).swapaxes(-1, -2),
    )


def _grid(value: Decompressed) -> tuple[int, str, Nearest]:
    """Bits a number, kind of grid, and the nearest that it holds, of a compressed weight in the file's own layout."""
    kind, parts = value.source.kind, value.source.operands
    shape = value.source.types[value.index].static_shape() or ()
    dtype = value.type.dtype.storage
    if kind == "constexpr_affine_dequantize":
        axis, rank = int(parts["axis"].array()), len(shape)
        along = [-1 if dim == axis % rank else 1 for dim in range(rank)]
        scale, zero = (parts[name].array().reshape(along) for name in ("scale", "zero_point"))
        return _integers(parts["quantized_data"], scale, zero, dtype)
    if kind == "constexpr_blockwise_shift_scale":
        scale = _spread(parts["scale"].array(), shape)
        zero = _spread(parts["offset"].array(), shape) if "offset" in parts else np.zeros(1, np.float32)
        return _integers(parts["data"], scale, zero, dtype)
    if kind == "constexpr_lut_to_dense":
        table = parts["lut"].array()
        # Before iOS 18 one table [2^bits]; since then [groups in each dimension, 2^bits, 1].
        return _table(table.reshape(*[1] * len(shape), -1, 1) if table.ndim == 1 else table)
    if kind == "constexpr_sparse_to_dense" and isinstance(inner := parts["nonzero_data"], Decompressed):
        return _sparse(inner, parts["mask"].array().astype(bool))
    raise InvalidInput(f"{kind} {value.source.name!r} is a form of weight that no export writes")


def _integers(data: Fixed, scale: Array, zero: Array, dtype: np.dtype[Any]) -> tuple[int, str, Nearest]:
    bits, signed = data.type.dtype.bits, data.type.dtype.kind == "int"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    step, offset = scale.astype(np.float32), zero.astype(np.float32)

    def nearest(numbers: Floats) -> Floats:
        steps = np.divide(numbers, step, out=np.zeros_like(numbers), where=step != 0)
        integers = np.clip(np.round(steps + offset), low, high)
        return ((integers - offset) * step).astype(dtype).astype(np.float32)  # as the evaluator restores it

    return bits, "integers", nearest


def _table(tables: Array) -> tuple[int, str, Nearest]:
    """`tables`: [groups in each dimension of the weight, 2^bits, 1]."""
    *groups, entries, width = tables.shape
    if width != 1:
        raise InvalidInput("tables of vectors are a form of weight that no export writes")
    ordered = np.sort(tables[..., 0].astype(np.float32), axis=-1)
    between = (ordered[..., 1:] + ordered[..., :-1]) / 2

    def nearest(numbers: Floats) -> Floats:
        result = np.empty_like(numbers)
        sizes = [size // count for size, count in zip(numbers.shape, groups, strict=True)]
        for group in np.ndindex(*groups):
            part = tuple(slice(at * size, (at + 1) * size) for at, size in zip(group, sizes, strict=True))
            result[part] = ordered[group][np.searchsorted(between[group], numbers[part])]
        return result

    return entries.bit_length() - 1, "table", nearest


def _sparse(inner: Decompressed, mask: npt.NDArray[np.bool_]) -> tuple[int, str, Nearest]:
    """What a mask leaves out is zero; the rest is on a table."""
    if inner.source.kind != "constexpr_lut_to_sparse":
        raise InvalidInput(f"{inner.source.kind} {inner.source.name!r} is a form of weight that no export writes")
    bits, kind, dense = _table(inner.source.operands["lut"].array())
    return bits, kind, lambda numbers: np.where(mask, dense(numbers), np.float32(0))


def _spread(values: Array, shape: tuple[int, ...]) -> Array:
    """One value a block, repeated for each number of its block."""
    for axis, size in enumerate(shape):
        values = np.repeat(values, size // values.shape[axis], axis=axis)
    return values
