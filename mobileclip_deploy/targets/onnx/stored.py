"""The weights that stand in an ONNX file, dequantized, each with the grid that its scales give it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, needed
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, as_float, on_grid, spread, turned, unpack_int4

__all__ = ["read_weights"]

Array = npt.NDArray[Any]
# The input of an operation that holds its weight.
WEIGHTS = {"Conv": "W", "MatMul": "B", "Gemm": "B", "Gather": "data", "MatMulInteger": "B"}
BLOCKS = {"com.microsoft.MatMulNBits": ("A", "B", "scales")}


def read_weights(graph: Graph, path: Path) -> tuple[StoredWeight, ...]:
    """The weights of convolutions, products and tables that the output needs, once for each operation that takes them.

    A product's is [outputs, inputs], also where it was a 1 x 1 convolution.

    Raises:
        InvalidInput: the file is damaged, or holds a weight in a form that no export writes.
    """
    reader = _Reader(graph)
    try:
        return tuple(reader.weights())
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}") from error


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = needed(graph)

    def weights(self) -> Iterator[StoredWeight]:
        """Raises ValueError for a form that no export writes."""
        steps = {id(found[1]) for node in self.graph.nodes if (found := self._table_of_halves(node)) is not None}
        for number in self.order:
            node = self.graph.nodes[number]
            inputs = dict(node.inputs)
            if node.type in BLOCKS:
                yield _blocks(node)
                continue
            if (table := self._table_of_halves(node)) is not None:
                yield _halves(*table)
                continue
            if node.type == "Gather" and id(inputs["data"]) in steps:
                continue
            value = inputs.get(WEIGHTS.get(node.type, ""))
            if node.type == "Conv" and (cut := self._made(value)) is not None and cut.type == "Slice":
                value, start = dict(cut.inputs)["data"], dict(cut.inputs)["starts"]
                if not isinstance(start, Constant) or start.values.any():
                    continue  # the others of one weight: see `doubling`
            scales = None
            if isinstance(value, Constant) and value.values.dtype.kind in "iu" and value.values.ndim == 2:
                scales = self._scales_behind(number, value)
            stored = self._stored(value, scales)
            if stored is None or stored.values.ndim < 2 or (node.type == "Gather" and stored.values.shape[1] == 1):
                continue  # computed, a shape, the scales of a table
            inputs_first = node.type in ("MatMul", "MatMulInteger") or (
                node.type == "Gemm" and not node.settings["transB"]
            )
            yield turned(stored, 1, 0) if inputs_first else stored

    def _table_of_halves(self, node: Node) -> tuple[Constant, Constant] | None:
        """A look-up table with two numbers per byte, and its scales, which are looked up by the same ids; None of what
        is no such table.

        Raises ValueError for one whose scales are not found.
        """
        inputs = dict(node.inputs)
        data = inputs.get("data")
        if node.type != "Gather" or not isinstance(data, Constant) or data.values.dtype != np.uint8:
            return None
        for other in self.graph.nodes:
            given = dict(other.inputs)
            scales = given.get("data")
            same = other.type == "Gather" and given["indices"] == inputs["indices"]
            if same and isinstance(scales, Constant) and scales.values.dtype == np.float16:
                return data, scales
        raise ValueError(f"the 4-bit numbers of {data.name} have no scales")

    def _stored(self, value: Input, scales: Array | None) -> StoredWeight | None:
        """A weight as it stands there: floats, or integers that are restored in front of what takes them; None for
        what is computed."""
        if isinstance(value, Constant):
            if value.values.dtype.kind == "f":
                return as_float(value.name, value.values)
            return None if scales is None else _integers(value.name, value.values, scales)
        node = self._made(value)
        if node is None:
            return None
        inputs = [given for _, given in node.inputs]
        if node.type == "DequantizeLinear" and all(isinstance(given, Constant) for given in inputs):
            integers, *grid = (given for given in inputs if isinstance(given, Constant))
            axis = node.settings["axis"]
            along = [-1 if dim == axis % integers.values.ndim else 1 for dim in range(integers.values.ndim)]
            numbers, *zeros = (given.values.reshape(along) for given in grid)
            return _integers(integers.name, integers.values, numbers, *zeros)
        if node.type == "Mul" and isinstance(inputs[1], Constant):
            cast = self._made(inputs[0])
            held = cast.inputs[0][1] if cast is not None and cast.type == "Cast" else None
            if isinstance(held, Constant):
                return _integers(held.name, held.values, inputs[1].values)
        return None

    def _scales_behind(self, number: int, weight: Constant) -> Array | None:
        """The scales of integers that are restored behind a look-up or product; None for numbers that stay integers.

        They are the constant [rows, 1] or [outputs] of the factors that Cast's result is multiplied by.
        """
        casts = [node for node in self._users(number) if self.graph.nodes[node].type == "Cast"]
        for product in [self.graph.nodes[node] for cast in casts for node in self._users(cast)]:
            factors = [self._made(given) for _, given in product.inputs]
            found = [given for node in factors if node for _, given in node.inputs if isinstance(given, Constant)]
            if product.type == "Mul" and len(found) == 1:
                return found[0].values
        if weight.values.dtype == np.int64:  # of a shape
            return None
        raise ValueError(f"the integers of {weight.name} have no scales")

    def _made(self, value: Input) -> Node | None:
        """What computes a value; None for constants and inputs."""
        return self.graph.nodes[value.node] if isinstance(value, Wire) and value.node is not None else None

    def _users(self, number: int) -> list[int]:
        """The operations that take what one computes."""
        wire = Wire(number)
        return [user for user in self.order if _takes(self.graph.nodes[user], wire)]


def _takes(node: Node, wire: Wire) -> bool:
    return any(isinstance(given, Wire) and given == wire for _, given in node.inputs)


def _integers(name: str, stored: Array, scales: Array, zeros: Array | float = 0) -> StoredWeight:
    """Integers [...] with scales (and zero points) that broadcast to them."""
    info = np.iinfo(stored.dtype)
    return on_grid(name, Affine(scales, info.bits, zeros, signed=info.min < 0), stored)


def _blocks(node: Node) -> StoredWeight:
    """A product's int4 weight with one scale per block of inputs: [outputs, inputs]."""
    inputs, wanted = dict(node.inputs), BLOCKS[node.type]
    data, scales, block = inputs[wanted[-2]], inputs[wanted[-1]], node.settings["block_size"]
    if set(inputs) - {*wanted} or not isinstance(data, Constant) or not isinstance(scales, Constant):
        raise ValueError(f"the 4-bit numbers of {node.name} are in a form that no export writes")
    # [N, bytes] or [N, blocks, bytes] -> [N, K]
    integers = unpack_int4(data.values, 8).reshape(len(data.values), -1)[:, : node.settings["K"]]
    if node.settings.get("bits", 4) != 4 or scales.values.shape != (len(integers), -(-integers.shape[1] // block)):
        raise ValueError(f"the scales of {node.name} are not one of {block} numbers of 4 bits")

    return _four_bits(data.name, integers, scales.values, block)


def _halves(data: Constant, scales: Constant) -> StoredWeight:
    """A look-up table with two numbers per byte [rows, width / 2] and scales [rows, blocks]: [rows, width]."""
    integers, steps = unpack_int4(data.values, 8), scales.values
    if steps.ndim != 2 or len(steps) != len(integers) or integers.shape[1] % steps.shape[1]:
        raise ValueError(f"the scales of {data.name} are not those of its rows")
    return _four_bits(data.name, integers, steps, integers.shape[1] // steps.shape[1])


def _four_bits(name: str, integers: Array, scales: Array, block: int) -> StoredWeight:
    return on_grid(name, Affine(spread(scales, integers.shape, block), 4), integers)
