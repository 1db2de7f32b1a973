"""Tracing of the values that an ONNX file quantizes by QuantizeLinear: node by node in float32, without integer
kernels.

The available integer kernels depend on the processor; the check `shipped` covers them. The traced file is compared with
the same file and its stored constants, where nothing else is rounded.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import Malformed, reraising
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.onnx.runner import OnnxRunner
from mobileclip_deploy.targets.quantized import QuantizedFile, QuantizeOps, quantized_values

ONE = "plain_one"
DYNAMIC = "DynamicQuantizeLinear"
"""Operator that quantizes an activation by its own range."""
PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
"""Operators on integers, and those on floats that compute the same."""


class OnnxFile(Protocol):
    """An opened ONNX file: its path, its graph, and a copy of its model that may be changed."""

    @property
    def file(self) -> Path: ...

    @property
    def graph(self) -> Graph: ...

    def copied(self) -> onnx.ModelProto: ...


def plain_model(artifact: OnnxFile) -> onnx.ModelProto:
    """Returns the model with every float16 converted to float32, and inputs of products and convolutions not quantized.

    Weights and biases keep their stored values: integers are dequantized.
    """
    model, path = artifact.copied(), artifact.file
    graph = model.graph
    for tensor in graph.initializer:
        _raise(tensor, path)
    rounded: set[str] = set()  # values that the file would round to uint8, left unchanged here
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _raise(attribute.t, path)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        if node.op_type in ("QuantizeLinear", DYNAMIC):
            rounded.add(node.output[0])
            nodes.append(helper.make_node("Identity", node.input[:1], node.output[:1]))
            if node.op_type == DYNAMIC:  # its scale is a factor of the product
                nodes.append(helper.make_node("Identity", [ONE], node.output[1:2]))
        elif node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            nodes.append(helper.make_node("Identity", node.input[:1], node.output))
        elif node.op_type in PRODUCTS and node.input[0] in rounded:
            floats, zero = f"{node.output[0]}_plain", f"{node.output[0]}_zero"
            nodes.append(helper.make_node("Cast", node.input[1:2], [floats], to=TensorProto.FLOAT))
            if len(node.input) == 4:  # the weight's zero point
                nodes.append(helper.make_node("Cast", node.input[3:], [zero], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Sub", [floats, zero], [f"{floats}_centred"]))
                floats = f"{floats}_centred"
            nodes.append(helper.make_node(PRODUCTS[node.op_type], [node.input[0], floats], node.output))
            nodes[-1].attribute.extend(node.attribute)
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), ONE))
    return model


def _raise(tensor: onnx.TensorProto, path: Path) -> None:
    if tensor.data_type != TensorProto.FLOAT16:
        return
    with reraising(f"{path}: the elements of {tensor.name} cannot be read", ValueError):
        values = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


TYPES = {np.dtype(kind): helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in (np.uint8, np.int8, np.uint16)}
# Names of weight and bias among a layer's inputs.
LAYERS = {"Conv": ("W", "B"), "Gemm": ("B", "C")}


def _zero_point(node: Node) -> npt.NDArray[Any]:
    zero_point = dict(node.inputs)["y_zero_point"]
    if not isinstance(zero_point, Constant):
        raise Malformed(f"the zero point of {node.name} is computed")
    return zero_point.values


def _limits(node: Node) -> tuple[int, int]:
    ends = np.iinfo(_zero_point(node).dtype)
    return int(ends.min), int(ends.max)


PAIR = QuantizeOps(
    quantize=("QuantizeLinear", "x", "y_scale", "y_zero_point"),
    dequantize=("DequantizeLinear", "x", "x_scale", "x_zero_point"),
    shapes=("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast"),
    limits=_limits,
    looked_up=("Gather",),
    bias_behind=("MatMul", "Add"),
)


class QuantizedOnnx(QuantizedFile):
    """A file with QuantizeLinear nodes."""

    def __init__(self, artifact: OnnxFile) -> None:
        path, graph = artifact.file, artifact.graph
        with reraising(f"{path}: its quantized values cannot be read", KeyError, ValueError):
            self.values, self.bias_steps = tuple(quantized_values(graph, PAIR)), dict(_bias_steps(graph))
            kinds = {
                graph.names[Wire(index)]: TYPES[_zero_point(node).dtype]
                for index, node in enumerate(graph.nodes)
                if node.type == PAIR.quantize[0]
            }
        model, plain = artifact.copied(), plain_model(artifact)
        input_names, results = ({port.name for port in ports} for ports in (plain.graph.input, plain.graph.output))
        self._given = input_names & {*self.followed}
        _give(plain, {name: TensorProto.FLOAT for name in self.followed if name not in input_names | results})
        self._plain = OnnxRunner(path, plain.SerializeToString(), as_written=True)
        _give(model, kinds)
        self._quantized = OnnxRunner(path, model.SerializeToString(), as_written=True)
        self.engine = f"{self._quantized.engine}, evaluated as stored"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        values = self._plain.values(row)
        return {name: np.asarray(row if name in self._given else values[name], np.float32) for name in self.followed}

    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        values = self._quantized.values(row)
        answer = next(iter(values.values()))
        return answer.astype(np.float32), values


def _give(model: onnx.ModelProto, kinds: Mapping[str, int]) -> None:
    """Adds computed values, with these types, to the model's outputs."""
    for name, kind in kinds.items():
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))


def _bias_steps(graph: Graph) -> Iterator[tuple[str, Floats]]:
    """Yields the scales of biases that are dequantized from integers, by the name of their layer's integers."""
    for node in graph.nodes:
        inputs = dict(node.inputs)
        weight, bias = (_stored(graph, inputs.get(name)) for name in LAYERS.get(node.type, ("", "")))
        if weight is not None and bias is not None:
            yield weight[0].name, bias[1].values.astype(np.float32)


def _stored(graph: Graph, value: Input) -> tuple[Constant, Constant] | None:
    """Returns the integers and the scales of a dequantized constant. None for anything else."""
    if (back := graph.producer(value)) is None or back.type != PAIR.dequantize[0]:
        return None
    inputs = dict(back.inputs)
    integers, scale = inputs[PAIR.dequantize[1]], inputs[PAIR.dequantize[2]]
    return (integers, scale) if isinstance(integers, Constant) and isinstance(scale, Constant) else None
