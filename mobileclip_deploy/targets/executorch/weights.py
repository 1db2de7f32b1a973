"""The weights that stand in a .pte, in torch's layout: of XNNPACK's parts, and of the kernels outside of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.depthwise import KERNEL, in_bands, in_turn, joined
from mobileclip_deploy.targets.executorch.embedding import ENTRIES, unpacked
from mobileclip_deploy.targets.flatbuffer import Malformed
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.grids.decode import Affine, Floats, StoredWeight, Tables, as_float, on_grid, spread

__all__ = ["read_weights"]

BFLOAT16 = 2.0**-8  # how far a number may move when it is cut to it
CONVOLUTION, DEPTHWISE, PRODUCT = "XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"
SUM, STACK = "XNNAdd", "XNNConcatenate"
LOOK_UPS = ("aten::embedding", "aten::index")  # the second in files of version 0.3.0 and before
TRANSPOSED = 1  # a flag of products: the weight is [I, O]


def read_weights(graph: Graph, path: Path) -> tuple[StoredWeight, ...]:
    """Weights of convolutions and products, and tables; a convolution that was written as several is one weight.

    Raises:
        InvalidInput: a weight does not have the shape that its operation says.
    """
    nodes = graph.nodes
    tables = tuple(weight for node in nodes for weight in _tables(node, nodes))
    try:
        found = {number: _filter(node) for number, node in enumerate(nodes)}
    except Malformed as error:
        raise InvalidInput(f"{path} is not a usable .pte file: {error}") from error
    filters = {number: weight for number, weight in found.items() if weight is not None}
    _assembled(nodes, filters)
    return (*tables, *filters.values())


def _filter(node: Node) -> StoredWeight | None:
    """The weight of a convolution or product; None where it is computed, or the operation has none."""
    inputs = dict(node.inputs)
    stored = inputs.get("filter")
    if node.type not in (CONVOLUTION, DEPTHWISE, PRODUCT) or not isinstance(stored, Constant):
        return None
    numbers, scale = stored.values, _numbers(inputs.get("filter scale"))
    kernel = [node.settings.get(f"kernel_{side}") for side in ("height", "width")]
    if list(numbers.shape[1:-1]) != (kernel if node.type != PRODUCT else []):
        raise Malformed(f"{node.name} has a filter of shape {list(numbers.shape)}")
    if node.type == CONVOLUTION:  # [O, H, W, I] -> [O, I, H, W]
        numbers = numbers.transpose(0, 3, 1, 2)
    elif node.type == DEPTHWISE:  # [1, H, W, O] -> [O, 1, H, W]
        numbers = numbers.transpose(3, 0, 1, 2)
    elif node.settings["flags"] & TRANSPOSED:
        numbers = numbers.T
    if scale is None:
        return as_float(node.name, numbers)
    if scale.ndim == 2:
        return _grouped(node.name, numbers, scale)
    if scale.ndim == 1:
        if len(scale) != len(numbers):
            raise Malformed(f"{node.name} has {len(scale)} scales for {len(numbers)} channels")
        scale = scale.reshape(-1, *[1] * (numbers.ndim - 1))
    return _integers(node.name, numbers, scale, node.settings.get("filter zero point", 0))


def _tables(node: Node, nodes: tuple[Node, ...]) -> Iterator[StoredWeight]:
    """Tables that a kernel looks rows up in, and constants that a part takes from the program, such as positions."""
    inputs = dict(node.inputs)
    stored = _numbers(inputs.get("argument 0" if node.type.startswith("aten::") else "x"))
    if stored is None or stored.ndim != 2:
        return
    if node.type.startswith(LOOK_UPS) and stored.dtype == np.int8:
        rows = _looked_up(other for other in nodes if _ids(other) == _ids(node))
        scales = [scale for scale in rows if scale.shape == (len(stored), 1)]
        if len(scales) == 1:
            yield _integers(node.name, stored, scales[0])
    elif node.type.startswith(LOOK_UPS) and stored.dtype == np.uint8:
        tables = [table for table in _looked_up(nodes) if table.shape in ((ENTRIES,), (ENTRIES, 1))]
        if len(tables) == 1 and stored.shape[1] % 3 == 0:
            yield on_grid(node.name, Tables(tables[0].reshape(1, 1, -1)), unpacked(torch.tensor(stored)).numpy())
    elif node.type.startswith("aten::embedding") and stored.shape[1] > 1:  # one number a row is a scale or an entry
        yield as_float(node.name, stored)
    elif node.type == "XNNPACK input":
        scale = _numbers(inputs.get("x scale"))
        if scale is None:
            yield as_float(node.name, stored)
        else:
            yield _integers(node.name, stored, scale, node.settings["x zero point"])


def _looked_up(nodes: Iterable[Node]) -> list[npt.NDArray[Any]]:
    """What rows are looked up in."""
    found = [_numbers(dict(node.inputs)["argument 0"]) for node in nodes if node.type.startswith(LOOK_UPS)]
    return [numbers for numbers in found if numbers is not None]


def _ids(node: Node) -> Input | None:
    """The rows that an operation looks up; of `index` the first of a list."""
    given = dict(node.inputs)
    return given.get("argument 1[0]", given.get("argument 1"))


def _numbers(value: Input) -> npt.NDArray[Any] | None:
    return value.values if isinstance(value, Constant) else None


def _integers(name: str, numbers: npt.NDArray[Any], scale: npt.NDArray[Any], zero_point: int = 0) -> StoredWeight:
    """Weight stored at 8 bits; `scale` has a shape that numpy stretches to that of the numbers."""
    return on_grid(name, Affine(scale, 8, zero_point, steps=lambda given: _steps(given, scale)), numbers)


def _grouped(name: str, numbers: npt.NDArray[Any], scales: npt.NDArray[Any]) -> StoredWeight:
    """Weight stored at 4 bits, with one scale per group of inputs: `scales` [O, groups].

    Scales are cut to bfloat16 after the numbers were rounded by them: a number near the middle of two steps then stands
    at the farther one. `nearest` rounds as it was done, by the scale that puts the group's largest number at 7, where
    the file's is that scale cut.
    """
    group = numbers.shape[1] // scales.shape[1]

    def steps(given: Floats) -> Floats:
        whole = np.abs(given.reshape(*scales.shape, group)).max(axis=2) / np.float32(7)
        uncut = np.where(np.abs(whole - scales) <= scales * BFLOAT16, whole, scales)
        return _steps(given, spread(uncut, given.shape))

    return on_grid(name, Affine(spread(scales, numbers.shape), 4, steps=steps), numbers)


def _steps(given: Floats, scale: npt.NDArray[Any]) -> Floats:
    """Times the inverse, as torchao does: which of two steps a number in the middle goes to depends on it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = given * (np.float32(1) / scale)
    return np.where(scale == 0, 0, steps).astype(np.float32)


class _Takers:
    """Which operations take what each gives, and what it is added up to."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._nodes = nodes
        self._takers = defaultdict[int, list[int]](list)
        for number, node in enumerate(nodes):
            for _, value in node.inputs:
                if isinstance(value, Wire) and value.node is not None:
                    self._takers[value.node].append(number)

    def sum(self, node: int) -> int:
        """The last of the additions that alone take what a node gives."""
        while len(takers := self._takers[node]) == 1 and self._nodes[takers[0]].type == SUM:
            (node,) = takers
        return node

    def stack(self, node: int) -> int | None:
        """The concatenation that alone takes it."""
        takers = self._takers[node]
        return takers[0] if len(takers) == 1 and self._nodes[takers[0]].type.startswith(STACK) else None


def _assembled(nodes: tuple[Node, ...], filters: dict[int, StoredWeight]) -> None:
    """Put together, in place, the weights of convolutions that were taken apart: of bands of rows that are added up,
    and then of every other channel, whose results are laid side by side. What they became is by the first's number."""
    takers = _Takers(nodes)
    bands: dict[tuple[Any, ...], dict[tuple[int, int], int]] = {}
    for number, source in _depthwise(nodes, filters):
        settings = nodes[number].settings
        if settings["kernel_width"] == KERNEL:
            place = settings["dilation_height"], settings["kernel_height"]
            bands.setdefault((source, takers.sum(number)), {})[place] = number
    for group in in_bands(bands.values()):
        filters[group[0]] = joined([filters.pop(number) for number in group])
    parts: dict[tuple[Wire, int], dict[int, int]] = {}
    for number, source in _depthwise(nodes, filters):
        result = takers.sum(number)
        stack = takers.stack(result)
        if stack is not None:
            order = [value.node for _, value in nodes[stack].inputs if isinstance(value, Wire)]
            parts.setdefault((source, stack), {})[order.index(result)] = number
    for found in parts.values():
        numbers = [found[place] for place in sorted(found)]
        filters[numbers[0]] = in_turn([filters.pop(number) for number in numbers])


def _depthwise(nodes: tuple[Node, ...], filters: Mapping[int, StoredWeight]) -> list[tuple[int, Wire]]:
    """The depthwise convolutions among those whose weights are in the file, and what each takes."""
    found = ((number, dict(nodes[number].inputs).get("input1")) for number in filters)
    return [(n, source) for n, source in found if nodes[n].type == DEPTHWISE and isinstance(source, Wire)]
