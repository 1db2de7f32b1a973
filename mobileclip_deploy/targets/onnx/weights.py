"""Weights of a graph: where they are, and how each kind of node takes them as integers.

Also matrix products of text towers: 1 x 1 convolutions rewritten as products, and int8 products whose inputs are
quantized at run time, which need no calibration.

Products have int8 and int4 kernels for inputs measured at run time. Convolutions have no fast ones: dynamically
quantized they become ConvInteger, ten times slower than float32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, pack_int4
from mobileclip_deploy.targets.onnx.editing import OnnxEditor, array, op, taken

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class OnnxWeight:
    """A constant as one node takes it.

    Attributes:
        channels: dimension that gets one scale per index: a convolution's or matrix product's outputs, a look-up
            table's rows.
        layer: name of its layer in the torch tower.
    """

    node: ir.Node
    value: ir.Value
    values: Array
    channels: int
    layer: str = ""

    @property
    def name(self) -> str:
        """Name of the constant in the graph."""
        return str(self.value.name)


def weights(graph: ir.Graph, names: Mapping[str, str]) -> Iterator[OnnxWeight]:
    """Yields the weights of these layers that are still floats, in the graph's order. A weight that several nodes share
    comes once.

    Args:
        names: names of layers by a hash of their elements (see `targets.storage.by_numbers`).
    """
    seen = set()
    for node in graph:
        if node.op_type not in ("Conv", "MatMul", "Gemm", "Gather"):
            continue
        value = taken(node, 0 if node.op_type == "Gather" else 1)
        values = array(value)
        if values is None or value in seen or values.ndim < 2:
            continue
        inputs_first = node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attributes.get_int("transB", 0))
        weight = OnnxWeight(node, value, values, 1 if inputs_first else 0)
        layer = names.get(weight_sha256(rows_of(weight)))
        if layer is not None:
            seen.add(value)
            yield replace(weight, layer=layer)


def rows_of(weight: OnnxWeight) -> npt.NDArray[np.float32]:
    """Returns a product's weight or a table in torch's layout: [outputs, inputs], or [rows, width]."""
    return weight.values.T if weight.channels == 1 else weight.values


def restore_int8(editor: OnnxEditor, weight: OnnxWeight) -> None:
    """Stores a weight as int8 and dequantizes it before its node.

    This uses Cast and Mul rather than DequantizeLinear. ONNX Runtime computes these two once, when the session starts,
    and then runs the float kernels with a constant weight. DequantizeLinear of a constant is repeated at every
    inference. Only the looked-up rows of a look-up table are dequantized.
    """
    name, node = weight.name, weight.node
    integers, scales = int8_channels(weight.values, weight.channels)
    stored = editor.instead(weight.value, f"{name}_int8", integers)
    scale = editor.constant(f"{name}_scale", scales)
    if node.op_type == "Gather":
        ids = node.inputs[1]  # [N, L]
        result = node.outputs[0].name
        rows, factors, restored = (editor.value(f"{result}_{part}") for part in ("rows", "scales", "float"))
        nodes = [
            op("Gather", [stored, ids], [rows], axis=0),  # [N, L, width]
            op("Gather", [scale, ids], [factors], axis=0),  # [N, L, 1]
            op("Cast", [rows], [restored], to=ir.DataType.FLOAT.value),
            op("Mul", [restored, factors], [ir.Value()]),
        ]
        editor.replace(node, nodes)
        return
    restored, product = editor.value(f"{name}_float"), ir.Value(name=name, shape=weight.value.shape)
    cast = op("Cast", [stored], [restored], to=ir.DataType.FLOAT.value)
    editor.graph.insert_before(node, [cast, op("Mul", [restored, scale], [product])])
    weight.value.replace_all_uses_with(product)


def quantized_table(editor: OnnxEditor, weight: OnnxWeight) -> None:
    """Stores a look-up table as int8, with the look-up between DequantizeLinear and QuantizeLinear of one scale.

    An NPU takes int8 tables only in this form. The look-up returns integers, which that scale leaves unchanged, and the
    scales of their rows multiply them.
    """
    name, ids = weight.name, weight.node.inputs[1]  # [N, L]
    integers, scales = int8_channels(weight.values, weight.channels)
    stored = editor.instead(weight.value, f"{name}_int8", integers)
    scale = editor.constant(f"{name}_scale", scales)
    unit, zero = np.array(1, np.float32), np.array(0, np.int8)
    grid = editor.constant(f"{name}_one", unit), editor.constant(f"{name}_zero", zero)
    result_name = weight.node.outputs[0].name
    parts = ("float", "looked", "rows", "rows_float", "scales")
    table, looked_up, rows, restored, factors = (editor.value(f"{result_name}_{part}") for part in parts)
    nodes = [
        op("DequantizeLinear", [stored, *grid], [table]),
        op("Gather", [table, ids], [looked_up], axis=0),  # [N, L, width]
        op("QuantizeLinear", [looked_up, *grid], [rows]),
        op("DequantizeLinear", [rows, *grid], [restored]),
        op("Gather", [scale, ids], [factors], axis=0),  # [N, L, 1]
        op("Mul", [restored, factors], [ir.Value()]),
    ]
    editor.replace(weight.node, nodes)


def four_bits(editor: OnnxEditor, weight: OnnxWeight, block: int) -> None:
    """Stores the weight of a MatMul, or a look-up table, as int4 in blocks of inputs. Its node is rewritten to take it.

    A product becomes ONNX Runtime's own operation: onnx has no blocks before opset 21.
    """
    name, node, values = weight.name, weight.node, rows_of(weight)
    integers, scales = int4_blocks(values, block)
    if node.op_type == "Gather":
        _table_of_halves(editor, weight, integers, scales)
        return
    editor.graph.opset_imports.setdefault(MICROSOFT, 1)
    stored = editor.instead(weight.value, f"{name}_int4", pack_int4(integers, 8))
    inputs = [node.inputs[0], stored, editor.constant(f"{name}_scale", scales)]
    settings = {"K": values.shape[1], "N": values.shape[0], "bits": 4, "block_size": block}
    product = ir.Value()
    nodes = [op("MatMulNBits", inputs, [product], MICROSOFT, **settings)]
    if node.op_type == "Gemm" and len(node.inputs) > 2:  # its bias is an input; a MatMul's is a following Add
        nodes.append(op("Add", [product, node.inputs[2]], [ir.Value()]))
    editor.replace(node, nodes)


def _table_of_halves(
    editor: OnnxEditor, weight: OnnxWeight, integers: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]
) -> None:
    """Stores a look-up table with two elements per byte [rows, width / 2], which are separated after a row is looked
    up.

    Every build of ONNX Runtime has these operations. Its own 4-bit look-up, GatherBlockQuantized, is missing from the
    build that transformers.js loads in browsers. They compute in floats, which represent bytes exactly.

    Args:
        integers: -8 ... 7, [rows, blocks, block]; the blocks fill the width (see `storage`).
        scales: [rows, blocks].
    """
    name, ids = weight.name, weight.node.inputs[1]  # [N, L]
    rows, blocks, block = integers.shape
    result_name = weight.node.outputs[0].name
    nodes: list[ir.Node] = []

    def computed(kind: str, part: str, *inputs: ir.Value | None, **settings: Any) -> ir.Value:
        result = editor.value(f"{result_name}_{part}")
        nodes.append(op(kind, inputs, [result], **settings))
        return result

    def real(part: str, number: float) -> ir.Value:
        return editor.constant(f"{name}_{part}", np.array(number, dtype=np.float32))

    packed = pack_int4(integers.reshape(rows, -1), 8)
    stored = editor.instead(weight.value, f"{name}_int4", packed)
    steps = editor.constant(f"{name}_scale", scales.astype(np.float16))
    last, float32 = editor.whole(f"{name}_last", -1), ir.DataType.FLOAT.value
    both = computed("Cast", "bytes", computed("Gather", "rows", stored, ids, axis=0), to=float32)  # [N, L, width / 2]
    upper = computed("Floor", "upper", computed("Mul", "shifted", both, real("sixteenth", 1 / 16)))
    lower = computed("Sub", "lower", both, computed("Mul", "raised", upper, real("sixteen", 16)))
    halves = [computed("Unsqueeze", f"{part}_half", half, last) for part, half in (("lower", lower), ("upper", upper))]
    pairs = computed("Concat", "halves", *halves, axis=-1)  # [N, L, width / 2, 2]
    grouped = computed("Reshape", "blocks", pairs, editor.whole(f"{name}_blocks", 0, 0, blocks, block))
    elements = computed("Sub", "numbers", grouped, real("eight", 8))
    row_scales = computed("Cast", "scales_float", computed("Gather", "scales", steps, ids, axis=0), to=float32)
    product = computed("Mul", "product", elements, computed("Unsqueeze", "steps", row_scales, last))
    nodes.append(op("Reshape", [product, editor.whole(f"{name}_flat", 0, 0, blocks * block)], [ir.Value()]))
    editor.replace(weight.node, nodes)


CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def as_products(editor: OnnxEditor) -> None:
    """Rewrites every 1 x 1 convolution of one group as transpose, product, sum and transpose.

    A GELU between two of them is computed with channels last too, so that nothing is transposed twice.
    """
    last: dict[ir.Value | None, ir.Value] = {}  # a value [N, C, H, W] -> the same as [N, H, W, C]
    for node in list(editor.graph):
        if node.op_type == "Gelu" and node.inputs[0] in last:
            result = node.outputs[0]
            node.replace_input_with(0, last[node.inputs[0]])
            first = editor.take_users(result, f"{result.name}_last")
            editor.graph.insert_after(node, op("Transpose", [result], [first], perm=CHANNELS_FIRST))
            last[first] = result
        elif is_pointwise(node):
            nodes, value = _product(editor, node, last)
            editor.replace(node, nodes)
            last[nodes[-1].outputs[0]] = value
    editor.drop_unused()


def _product(
    editor: OnnxEditor, node: ir.Node, last: dict[ir.Value | None, ir.Value]
) -> tuple[list[ir.Node], ir.Value]:
    """Returns the nodes that replace a convolution, and its result with channels last."""
    source, weight, biases, (result,) = taken(node, 0), taken(node, 1), node.inputs[2:], node.outputs
    values = array(weight)  # [outputs, inputs, 1, 1]
    assert values is not None
    nodes: list[ir.Node] = []
    if source not in last:
        last[source] = editor.value(f"{source.name}_last")
        nodes.append(op("Transpose", [source], [last[source]], perm=CHANNELS_LAST))
    matrix = editor.instead(weight, f"{weight.name}_matrix", values[:, :, 0, 0].T)  # [inputs, outputs]
    value = editor.value(f"{result.name}_last")
    product = editor.value(f"{result.name}_product") if biases else value
    nodes.append(op("MatMul", [last[source], matrix], [product]))
    if biases:
        nodes.append(op("Add", [product, biases[0]], [value]))
    nodes.append(op("Transpose", [value], [ir.Value()], perm=CHANNELS_FIRST))
    return nodes, value


def is_pointwise(node: ir.Node) -> bool:
    """Returns whether a node is a 1 x 1 convolution of one group, stride 1."""
    if node.op_type != "Conv":
        return False
    weight, attributes = array(node.inputs[1]), node.attributes
    plain = attributes.get_int("group", 1) == 1
    unmoved = all(set(attributes.get_ints(name, ())) <= {value} for name, value in (("strides", 1), ("pads", 0)))
    return weight is not None and weight.shape[2:] == (1, 1) and plain and unmoved


Quantized = dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]]
"""Quantized inputs of products: integers, scale and zero point."""


def dynamic_product(editor: OnnxEditor, weight: OnnxWeight, quantized: Quantized) -> None:
    """Replaces a MatMul or Gemm by integers times integers, one scale per output channel.

    ONNX Runtime fuses DynamicQuantizeLinear, MatMulInteger, Cast, Mul and Add into one operator.

    Args:
        quantized: quantized inputs of other products; an input that several products share is quantized once.
    """
    node = weight.node
    source, biases, (result,) = taken(node, 0), node.inputs[2:], node.outputs
    nodes: list[ir.Node] = []
    if source not in quantized:
        integers, scale, zero = (editor.value(f"{source.name}_{part}") for part in ("uint8", "scale", "zero"))
        nodes.append(op("DynamicQuantizeLinear", [source], [integers, scale, zero]))
        quantized[source] = integers, scale, zero
    integers, scale, zero = quantized[source]
    whole, scales = int8_channels(rows_of(weight).T, 1)  # [K, N] and [1, N]
    stored = editor.instead(weight.value, f"{weight.name}_int8", whole)
    weight_scale = editor.constant(f"{weight.name}_scale", scales.reshape(-1))
    summed, floats, factors = (editor.value(f"{result.name}_{part}") for part in ("int32", "float", "factors"))
    product = editor.value(f"{result.name}_product") if biases else ir.Value()
    nodes += [
        op("MatMulInteger", [integers, stored, zero], [summed]),
        op("Cast", [summed], [floats], to=ir.DataType.FLOAT.value),
        op("Mul", [scale, weight_scale], [factors]),
        op("Mul", [floats, factors], [product]),
    ]
    if biases:
        nodes.append(op("Add", [product, biases[0]], [ir.Value()]))
    editor.replace(node, nodes)
