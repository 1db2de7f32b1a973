"""Positions of the weights in a .pte, inside and outside of XNNPACK's parts, and how each is restored."""

from collections.abc import Iterable

import numpy as np
import torch

from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.executorch.embedding import ENTRIES, unpacked
from mobileclip_deploy.targets.graph import Input, Node
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, Tables, as_float, on_grid, spread
from mobileclip_deploy.targets.weights import Depthwise, View, WeightTable, numbers_of

BFLOAT16 = 2.0**-8  # largest relative change of a value truncated to bfloat16
CONVOLUTION, DEPTHWISE, PRODUCT = "XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected"
LOOK_UPS = ("aten::embedding", "aten::index")  # the second in files of version 0.3.0 and before
TRANSPOSED = 1  # a flag of products: the weight is [I, O]


TABLE = WeightTable(
    places=dict.fromkeys((CONVOLUTION, DEPTHWISE, PRODUCT), ("filter",))
    | dict.fromkeys(LOOK_UPS, ("argument 0",))
    | {"XNNPACK input": ("x",)},
    stored=lambda view, number, name: (_filter if name == "filter" else _rows)(view, view.nodes[number], name),
    depthwise=Depthwise(DEPTHWISE, "dilation_height", "XNNAdd", "XNNConcatenate"),
)


def _filter(view: View, node: Node, name: str) -> StoredWeight | None:
    inputs = dict(node.inputs)
    elements, scale = numbers_of(inputs.get(name)), numbers_of(inputs.get(f"{name} scale"))
    if elements is None:
        return None
    kernel = [node.settings.get(f"kernel_{side}") for side in ("height", "width")]
    if list(elements.shape[1:-1]) != (kernel if node.type != PRODUCT else []):
        raise Malformed(f"{node.name} has a filter of shape {list(elements.shape)}")
    if node.type == CONVOLUTION:  # [O, H, W, I] -> [O, I, H, W]
        elements = elements.transpose(0, 3, 1, 2)
    elif node.type == DEPTHWISE:  # [1, H, W, O] -> [O, 1, H, W]
        elements = elements.transpose(3, 0, 1, 2)
    elif node.settings["flags"] & TRANSPOSED:
        elements = elements.T
    if scale is None:
        return as_float(node.name, elements)
    if scale.ndim == 2:
        return _grouped(node.name, elements, scale)
    if scale.ndim == 1:
        if len(scale) != len(elements):
            raise Malformed(f"{node.name} has {len(scale)} scales for {len(elements)} channels")
        scale = scale.reshape(-1, *[1] * (elements.ndim - 1))
    return _integers(node, elements, scale)


def _rows(view: View, node: Node, name: str) -> StoredWeight | None:
    """Returns a table of a row lookup, or a constant (such as positions) that the program passes to a delegate."""
    inputs = dict(node.inputs)
    stored = numbers_of(inputs.get(name))
    if stored is None or stored.ndim != 2:
        return None
    if node.type == "XNNPACK input":
        scale = numbers_of(inputs.get("x scale"))
        return as_float(node.name, stored) if scale is None else _integers(node, stored, scale, "x zero point")
    if stored.dtype == np.int8:
        rows = _looked_up(other for other in view.nodes if _ids(other) == _ids(node))
        scales = [scale for scale in rows if scale.shape == (len(stored), 1)]
        return _integers(node, stored, scales[0]) if len(scales) == 1 else None
    if stored.dtype == np.uint8:
        tables = [table for table in _looked_up(view.nodes) if table.shape in ((ENTRIES,), (ENTRIES, 1))]
        if len(tables) != 1 or stored.shape[1] % 3:
            return None
        return on_grid(node.name, Tables(tables[0].reshape(1, 1, -1)), unpacked(torch.tensor(stored)).numpy())
    # A table with one element per row is a scale or an entry.
    return as_float(node.name, stored) if node.type.startswith("aten::embedding") and stored.shape[1] > 1 else None


def _looked_up(nodes: Iterable[Node]) -> list[Array]:
    """Returns the tables that operations look rows up in."""
    tables = [numbers_of(dict(node.inputs)["argument 0"]) for node in nodes if node.type.startswith(LOOK_UPS)]
    return [elements for elements in tables if elements is not None]


def _ids(node: Node) -> Input | None:
    """Returns the indices of the rows that an operation looks up; for `index` they are the first item of a list."""
    inputs = dict(node.inputs)
    return inputs.get("argument 1[0]", inputs.get("argument 1"))


def _integers(node: Node, numbers: Array, scale: Array, zero: str = "filter zero point") -> StoredWeight:
    """Returns a weight stored at 8 bits; `scale` has a shape that numpy broadcasts to that of the integers."""
    grid = Affine(scale, 8, node.settings.get(zero, 0), steps=lambda given: _steps(given, scale))
    return on_grid(node.name, grid, numbers)


def _grouped(name: str, numbers: Array, scales: Array) -> StoredWeight:
    """Returns a weight stored at 4 bits, with one scale per group of inputs: `scales` [O, groups].

    Scales are truncated to bfloat16 after the weights were rounded with them. An element near the middle of two steps
    may therefore be at the farther one. `nearest` rounds like the writer, with the scale that puts the group's largest
    element at 7. It does so only if the file's scale is the truncation of that scale.
    """
    group = numbers.shape[1] // scales.shape[1]

    def steps(given: Floats) -> Floats:
        whole = np.abs(given.reshape(*scales.shape, group)).max(axis=2) / np.float32(7)
        uncut = np.where(np.abs(whole - scales) <= scales * BFLOAT16, whole, scales)
        return _steps(given, spread(uncut, given.shape))

    return on_grid(name, Affine(spread(scales, numbers.shape), 4, steps=steps), numbers)


def _steps(given: Floats, scale: Array) -> Floats:
    """Multiplies by the inverse scale, as torchao does: this decides the direction in which a midpoint is rounded."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = given * (np.float32(1) / scale)
    return np.where(scale == 0, 0, steps).astype(np.float32)
