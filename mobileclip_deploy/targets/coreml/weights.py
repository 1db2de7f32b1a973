"""Positions of the weights in a package, and the grid of each, by its scales or tables."""

from collections.abc import Callable

import numpy as np

from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, Tables, as_float, spread, turned
from mobileclip_deploy.targets.mil import Program
from mobileclip_deploy.targets.mil.constants import MilConstant
from mobileclip_deploy.targets.mil.constexpr import Decompressed
from mobileclip_deploy.targets.mil.graph import Fixed, Node, ValueReference
from mobileclip_deploy.targets.weights import View, WeightTable

Nearest = Callable[[Floats], Floats]


def table_of(program: Program) -> WeightTable:
    """Returns the positions of weights in a program's graph; its own operations define the compression."""

    def stored(view: View, number: int, name: str) -> StoredWeight | None:
        """Returns a weight. A `matmul`'s has a linear layer's layout: [outputs, inputs]."""
        node = program.graph.nodes[number]
        (value_name, value), *_ = node.operands[name]
        if isinstance(value, ValueReference) or len(value.type.shape) < 2:
            return None
        if isinstance(value, MilConstant):
            weight = as_float(value_name or node.name, value.array())
        else:
            weight = StoredWeight(value_name or node.name, value.array().astype(np.float32), *_grid(value))
        if node.kind != "matmul" or _is_set(node, f"transpose_{name}") != (name == "x"):
            return weight
        *others, inputs, outputs = range(weight.values.ndim)
        return turned(weight, *others, outputs, inputs)

    places = {"conv": ("weight",), "linear": ("weight",), "gather": ("x",), "matmul": ("x", "y")}
    return WeightTable(places, stored)


def _is_set(node: Node, parameter: str) -> bool:
    bound = node.operands.get(parameter, ())
    return any(not isinstance(operand, ValueReference) and bool(operand.array()) for _, operand in bound)


def _grid(value: Decompressed) -> tuple[int, str, Nearest]:
    """Returns bits per element, kind of grid, and the rounding to it, of a compressed weight in the file's own
    layout."""
    kind, parts = value.source.kind, value.source.operands
    if kind == "constexpr_sparse_to_dense" and isinstance(inner := parts["nonzero_data"], Decompressed):
        if inner.source.kind != "constexpr_lut_to_sparse":
            raise Malformed(f"{inner.source.kind} {inner.source.name!r}")
        tables, mask = _tables(inner.source.operands["lut"].array()), parts["mask"].array().astype(bool)
        # Elements outside the mask are zero; the rest is on a table.
        return tables.bits, tables.kind, lambda numbers: np.where(mask, tables.nearest(numbers), np.float32(0))
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
        raise Malformed(f"{kind} {value.source.name!r}")
    return grid.bits, grid.kind, grid.nearest


def _integers(data: Fixed, scale: Array, zero: Array, value: Decompressed) -> Affine:
    kind = data.type.dtype
    return Affine(scale, kind.bits, zero, signed=kind.kind == "int", dtype=value.type.dtype.storage)


def _tables(found: Array) -> Tables:
    """Returns the tables of [groups in each dimension of the weight, 2^bits, 1] entries."""
    if found.shape[-1] != 1:
        raise Malformed("tables of vectors")
    return Tables(found[..., 0])
