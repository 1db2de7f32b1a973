"""Positions of the weights in an ONNX file, and how each is restored."""

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.graph import Constant, Input, Node
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, as_float, on_grid, spread, turned, unpack_int4
from mobileclip_deploy.targets.weights import Depthwise, View, WeightTable

BACK = ("Cast", "DequantizeLinear")
"""Operations that convert looked-up or summed integers to floats."""


def _stored(view: View, number: int, name: str) -> StoredWeight | None:
    """Returns an input as a weight. A product's is [outputs, inputs], also if it was a 1 x 1 convolution."""
    node = view.nodes[number]
    inputs = dict(node.inputs)
    if name == "B" and "block_size" in node.settings:
        return _blocks(node)
    value = inputs.get(name)
    if node.type == "Gather":
        return _table(view, number, value, inputs["indices"])
    if node.type == "Conv" and (cut := view.producer(value)) is not None and cut.type == "Slice":
        value, start = dict(cut.inputs)["data"], dict(cut.inputs)["starts"]
        if not isinstance(start, Constant) or start.values.any():
            return None  # further slices of one weight: see `graph.split_doubling`
    stored = _restored(view, number, value)
    inputs_first = node.type in ("MatMul", "MatMulInteger") or (node.type == "Gemm" and not node.settings["transB"])
    return turned(stored, 1, 0) if stored is not None and stored.values.ndim == 2 and inputs_first else stored


TABLE = WeightTable(
    places={
        "Conv": ("W",),
        "MatMul": ("B",),
        "Gemm": ("B",),
        "MatMulInteger": ("B",),
        "Gather": ("data",),
        "com.microsoft.MatMulNBits": ("B",),
    },
    stored=_stored,
    depthwise=Depthwise("Conv", dilation="", addition="", concatenation="Concat", between="Unsqueeze"),
)


def _table(view: View, number: int, value: Input, ids: Input) -> StoredWeight | None:
    """Returns a look-up table, which may hold two elements per byte. Its scales [rows, blocks] are looked up with the
    same ids, and do not count as a table."""
    others = [
        inputs["data"]
        for node in view.nodes
        if node.type == "Gather" and (inputs := dict(node.inputs))["indices"] == ids and inputs["data"] is not value
    ]
    maker = view.producer(value)
    if maker is not None and maker.type == "DequantizeLinear":
        return _quantized_table(view, number, maker)
    halves = [other for other in others if isinstance(other, Constant) and other.values.dtype == np.float16]
    if not isinstance(value, Constant) or value.values.dtype != np.uint8:
        packed = any(isinstance(other, Constant) and other.values.dtype == np.uint8 for other in others)
        stored = _restored(view, number, value)
        scale = packed and isinstance(value, Constant) and value.values.dtype == np.float16
        return None if stored is None or scale or stored.values.ndim < 2 or stored.values.shape[1] == 1 else stored
    if len(halves) != 1:
        raise Malformed(f"the 4-bit elements of {value.name} have no scales")
    rows, steps = unpack_int4(value.values, 8), halves[0].values
    if steps.ndim != 2 or len(steps) != len(rows) or rows.shape[1] % steps.shape[1]:
        raise Malformed(f"the scales of {value.name} are not those of its rows")
    return on_grid(value.name, Affine(spread(steps, rows.shape, rows.shape[1] // steps.shape[1]), 4), rows)


def _quantized_table(view: View, number: int, held: Node) -> StoredWeight:
    """Returns a table that is looked up as integers with one scale (see `weights.quantized_table`)."""
    constants = [constant for _, constant in held.inputs if isinstance(constant, Constant)]
    if len(constants) != 3 or any(constant.values.size != 1 for constant in constants[1:]):
        raise ValueError(f"the table that {view.nodes[number].name} looks up has more than one scale")
    integers, step, zero = constants
    scales = _scales_behind(view, number, integers)
    if scales is None:
        raise ValueError(f"the integers of {integers.name} have no scales")
    return _integers(integers, scales * step.values, zero.values)


def _restored(view: View, number: int, value: Input) -> StoredWeight | None:
    """Returns a weight: floats, or integers that are dequantized before or after the operation that takes them. None
    for a computed value."""
    if isinstance(value, Constant):
        if value.values.dtype.kind == "f":
            return as_float(value.name, value.values)
        matrix = value.values.dtype.kind in "iu" and value.values.ndim == 2
        scales = _scales_behind(view, number, value) if matrix else None
        return None if scales is None else _integers(value, scales)
    node = view.producer(value)
    inputs = [] if node is None else [constant for _, constant in node.inputs]
    constants = [constant for constant in inputs if isinstance(constant, Constant)]
    if node is not None and node.type == "DequantizeLinear" and len(constants) == len(inputs):
        integers, *grid = constants
        axis, rank = node.settings["axis"], integers.values.ndim
        along = [-1 if dim == axis % rank else 1 for dim in range(rank)]
        return _integers(integers, *(constant.values.reshape(along) for constant in grid))
    if node is not None and node.type == "Mul" and isinstance(inputs[1], Constant):
        cast = view.producer(inputs[0])
        integers_of_cast = cast.inputs[0][1] if cast is not None and cast.type == "Cast" else None
        if isinstance(integers_of_cast, Constant):
            return _integers(integers_of_cast, inputs[1].values)
    return None


def _scales_behind(view: View, number: int, weight: Constant) -> Array | None:
    """Returns the scales of integers that are dequantized after a look-up or product. None for integers that stay
    integers.

    They are the constant [rows, 1] or [outputs] among the factors that Cast's result is multiplied by.
    """
    users = [*view.consumers(number)]
    users += [back for user in users if view.nodes[user].type == "QuantizeLinear" for back in view.consumers(user)]
    casts = [user for user in users if view.nodes[user].type in BACK]
    for product in [view.nodes[user] for cast in casts for user in view.consumers(cast)]:
        factors = [node for _, factor in product.inputs if (node := view.producer(factor)) and node.type not in BACK]
        constants = [factor for node in factors for _, factor in node.inputs if isinstance(factor, Constant)]
        if product.type == "Mul" and len(constants) == 1:
            return constants[0].values
    if weight.values.dtype == np.int64:  # a shape
        return None
    raise Malformed(f"the integers of {weight.name} have no scales")


def _integers(stored: Constant, scales: Array, zeros: Array | float = 0) -> StoredWeight:
    """Returns a weight of integers [...] with scales (and zero points) that broadcast to them."""
    info = np.iinfo(stored.values.dtype)
    return on_grid(stored.name, Affine(scales, info.bits, zeros, signed=info.min < 0), stored.values)


def _blocks(node: Node) -> StoredWeight:
    """Returns a product's int4 weight [outputs, inputs], with one scale per block of inputs."""
    inputs, block = dict(node.inputs), node.settings["block_size"]
    data, scales = inputs["B"], inputs["scales"]
    if set(inputs) - {"A", "B", "scales"} or not isinstance(data, Constant) or not isinstance(scales, Constant):
        raise Malformed(f"the 4-bit elements of {node.name}")
    # [N, bytes] or [N, blocks, bytes] -> [N, K]
    integers = unpack_int4(data.values, 8).reshape(len(data.values), -1)[:, : node.settings["K"]]
    if node.settings.get("bits", 4) != 4 or scales.values.shape != (len(integers), -(-integers.shape[1] // block)):
        raise Malformed(f"the scales of {node.name} are not one per {block} elements of 4 bits")
    return on_grid(data.name, Affine(spread(scales.values, integers.shape, block), 4), integers)
