"""The weights that stand in a package, decompressed, each with the grid that its scales or tables give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil.constants import Constant
from mobileclip_deploy.mil.constexpr import Decompressed
from mobileclip_deploy.mil.graph import Fixed, Node, Reference
from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact
from mobileclip_deploy.targets.graph import needed
from mobileclip_deploy.targets.grids.decode import Affine, Floats, StoredWeight, Tables, as_float, spread, turned

__all__ = ["read_weights"]

Array = npt.NDArray[Any]
Nearest = Callable[[Floats], Floats]
# The input of an operation that holds its weight; a product's may be its first.
WEIGHTS = {"conv": ("weight",), "linear": ("weight",), "gather": ("x",), "matmul": ("x", "y")}


def read_weights(artifact: CoreMLArtifact) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, linear layers, products and tables that the outputs need, once for each user.

    A `matmul`'s are given as a linear layer's: [outputs, inputs].

    Raises:
        InvalidInput: the package is damaged, or holds a weight in a form that no export writes.
    """
    found = []
    for number in needed(artifact.graph):
        for name, value, transposed in _weights(artifact.program.graph.nodes[number]):
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
    *others, inputs, outputs = range(stored.values.ndim)
    return turned(stored, *others, outputs, inputs)


def _grid(value: Decompressed) -> tuple[int, str, Nearest]:
    """Bits a number, kind of grid, and the nearest that it holds, of a compressed weight in the file's own layout."""
    kind, parts = value.source.kind, value.source.operands
    if kind == "constexpr_sparse_to_dense" and isinstance(inner := parts["nonzero_data"], Decompressed):
        return _sparse(inner, parts["mask"].array().astype(bool))
    shape = value.source.types[value.index].static_shape() or ()
    grid: Affine | Tables
    if kind == "constexpr_affine_dequantize":
        axis, rank = int(parts["axis"].array()), len(shape)
        along = [-1 if dim == axis % rank else 1 for dim in range(rank)]
        scale, zero = (parts[name].array().reshape(along) for name in ("scale", "zero_point"))
        grid = _integers(parts["quantized_data"], scale, zero, value)
    elif kind == "constexpr_blockwise_shift_scale":
        zero = spread(parts["offset"].array(), shape) if "offset" in parts else np.zeros(1, np.float32)
        grid = _integers(parts["data"], spread(parts["scale"].array(), shape), zero, value)
    elif kind == "constexpr_lut_to_dense":
        table = parts["lut"].array()
        # Before iOS 18 one table [2^bits]; since then [groups in each dimension, 2^bits, 1].
        grid = _tables(table.reshape(*[1] * len(shape), -1, 1) if table.ndim == 1 else table)
    else:
        raise InvalidInput(f"{kind} {value.source.name!r} is a form of weight that no export writes")
    return grid.bits, grid.kind, grid.nearest


def _integers(data: Fixed, scale: Array, zero: Array, value: Decompressed) -> Affine:
    kind = data.type.dtype
    return Affine(scale, kind.bits, zero, signed=kind.kind == "int", dtype=value.type.dtype.storage)


def _tables(found: Array) -> Tables:
    """`found`: [groups in each dimension of the weight, 2^bits, 1]."""
    if found.shape[-1] != 1:
        raise InvalidInput("tables of vectors are a form of weight that no export writes")
    return Tables(found[..., 0])


def _sparse(inner: Decompressed, mask: npt.NDArray[np.bool_]) -> tuple[int, str, Nearest]:
    """What a mask leaves out is zero; the rest is on a table."""
    if inner.source.kind != "constexpr_lut_to_sparse":
        raise InvalidInput(f"{inner.source.kind} {inner.source.name!r} is a form of weight that no export writes")
    tables = _tables(inner.source.operands["lut"].array())
    return tables.bits, tables.kind, lambda numbers: np.where(mask, tables.nearest(numbers), np.float32(0))
