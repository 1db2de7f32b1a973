"""The weights of a graph: where they are, and how each kind of node takes them as integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.model.provenance import weight_sha256
from mobileclip_deploy.targets.integers import int4_blocks, int8_channels, pack_int4
from mobileclip_deploy.targets.onnx.editing import Graph

__all__ = ["Weight", "four_bits", "int8_operands", "restore_int8", "rows_of", "weights"]

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Weight:
    """A constant as one node takes it. `channels` is the dimension that gets one scale an index: a convolution's or
    matrix product's outputs, a look-up table's rows. `layer` is its name in the torch tower."""

    name: str
    node: Any
    channels: int
    layer: str = ""


def weights(graph: Graph, names: Mapping[str, str]) -> Iterator[Weight]:
    """The weights of these layers that are still floats, in the graph's order; one that several nodes share comes once.

    Args:
        names: of layers by what tells their numbers (see `targets.storage.by_numbers`).
    """
    seen = set()
    for node in graph.nodes:
        weight = _weight(node)
        if weight is None or weight.name in seen or len(graph.shape(weight.name) or ()) < 2:
            continue
        layer = names.get(weight_sha256(rows_of(graph, weight)))
        if layer is not None:
            seen.add(weight.name)
            yield replace(weight, layer=layer)


def _weight(node: Any) -> Weight | None:
    if node.op_type == "Conv":
        return Weight(node.input[1], node, 0)
    if node.op_type == "MatMul":
        return Weight(node.input[1], node, 1)
    if node.op_type == "Gemm":
        return Weight(node.input[1], node, 0 if _attribute(node, "transB") else 1)
    if node.op_type == "Gather":
        return Weight(node.input[0], node, 0)
    return None


def rows_of(graph: Graph, weight: Weight) -> npt.NDArray[np.float32]:
    """A product's weight or a table as torch has it: [outputs, inputs], or [rows, width]."""
    values = graph.value(weight.name)
    return values.T if weight.channels == 1 else values


def restore_int8(graph: Graph, weight: Weight) -> list[Any]:
    """Store a weight as int8; gives the node with what restores it in front.

    Written as Cast and Mul rather than DequantizeLinear: ONNX Runtime computes the two once, when the session starts,
    and then runs the float kernels with a constant weight; DequantizeLinear of a constant it repeats at every
    inference. Of a look-up table only the rows that are looked up are restored.
    """
    from onnx import TensorProto, helper

    name, node = weight.name, weight.node
    integers, scales = int8_channels(graph.value(name), weight.channels)
    stored = graph.replace(name, f"{name}_int8", integers)
    scale = graph.add(f"{name}_scale", scales)
    if node.op_type == "Gather":
        rows, factors, restored = (graph.fresh(f"{node.output[0]}_{part}") for part in ("rows", "scales", "float"))
        return [
            helper.make_node("Gather", [stored, node.input[1]], [rows], axis=0),
            helper.make_node("Gather", [scale, node.input[1]], [factors], axis=0),
            helper.make_node("Cast", [rows], [restored], to=TensorProto.FLOAT),
            helper.make_node("Mul", [restored, factors], [node.output[0]]),
        ]
    restored = graph.fresh(f"{name}_float")
    return [
        helper.make_node("Cast", [stored], [restored], to=TensorProto.FLOAT),
        helper.make_node("Mul", [restored, scale], [name]),
        node,
    ]


def int8_operands(graph: Graph, weight: Weight) -> tuple[str, str]:
    """Store a matrix product's weight as int8 [K, N]: names of the integers and of the scales float32 [N]."""
    values = graph.value(weight.name)
    integers, scales = int8_channels(values.T if weight.channels == 0 else values, 1)
    stored = graph.replace(weight.name, f"{weight.name}_int8", integers)
    return stored, graph.add(f"{weight.name}_scale", scales.reshape(-1))


def four_bits(graph: Graph, weight: Weight, block: int) -> list[Any]:
    """Store the weight of a MatMul, or a look-up table, as int4 in blocks of inputs; gives the nodes that take it.

    They are ONNX Runtime's own: onnx has no 4-bit look-up, and no blocks before opset 21.
    """
    from onnx import TensorProto, helper

    graph.require_opset(MICROSOFT, 1)
    name, node = weight.name, weight.node
    values = rows_of(graph, weight)
    if node.op_type == "Gather":
        integers, scales = int4_blocks(values, block)
        packed = pack_int4(integers.reshape(len(values), -1)[:, : values.shape[1]], 0)
        table = helper.make_tensor(f"{name}_int4", TensorProto.INT4, values.shape, packed.tobytes(), raw=True)
        stored, half = graph.replace_tensor(name, table), graph.fresh(f"{node.output[0]}_half")
        inputs = [stored, node.input[1], graph.add(f"{name}_scale", scales.astype(np.float16))]
        settings: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": block}
        return [
            helper.make_node("GatherBlockQuantized", inputs, [half], domain=MICROSOFT, **settings),
            helper.make_node("Cast", [half], [node.output[0]], to=TensorProto.FLOAT),
        ]
    integers, scales = int4_blocks(values, block)
    stored = graph.replace(name, f"{name}_int4", pack_int4(integers, 8))
    inputs = [node.input[0], stored, graph.add(f"{name}_scale", scales)]
    settings = {"K": values.shape[1], "N": values.shape[0], "bits": 4, "block_size": block}
    return [helper.make_node("MatMulNBits", inputs, node.output, domain=MICROSOFT, **settings)]


def _attribute(node: Any, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)
