"""ONNX messages as graphs that are independent of names, order and encoding."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, helper, numpy_helper

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, needed, wires
from mobileclip_deploy.targets.values import TensorInfo

DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16"}

# Input names of ONNX Runtime's own operators; onnx has no schema for them.
MICROSOFT_INPUTS = {"MatMulNBits": ("A", "B", "scales", "zero_points", "g_idx", "bias")}


def ports_of(graph: onnx.GraphProto) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Returns a graph's declared inputs and outputs."""
    return tuple(map(_info, graph.input)), tuple(map(_info, graph.output))


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    return TensorInfo(
        value.name,
        DTYPES.get(tensor.elem_type, f"type {tensor.elem_type}"),
        tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim),
    )


def graph_of(model: onnx.ModelProto) -> Graph:
    """Converts a model.

    Raises:
        ValueError: it cannot be read.
    """
    graph = model.graph
    if graph.sparse_initializer:
        raise Malformed("sparse tensors, which conversions never write")
    values: dict[str, Input] = {"": None}  # an omitted input has an empty name
    values |= {tensor.name: Constant(_numbers(tensor), tensor.name) for tensor in graph.initializer}
    values |= {value.name: Wire(None, index) for index, value in enumerate(graph.input)}
    versions = {_domain(entry.domain): entry.version for entry in model.opset_import}
    functions = [function.SerializeToString(deterministic=True) for function in model.functions]
    nodes = _nodes(graph, values, (versions, functions))
    absent = [value.name for value in graph.output if value.name not in values]
    if absent:
        raise Malformed(f"no operator computes its output {absent[0]}")
    return Graph(
        tuple(map(_port, graph.input)),
        tuple(nodes),
        tuple(map(_port, graph.output)),
        tuple(values[value.name] for value in graph.output),
        names={value: name for name, value in values.items() if isinstance(value, Wire)},
    )


Said = tuple[Mapping[str, int], list[bytes]]
"""A file's operator versions by domain, and its own functions."""


def _nodes(graph: onnx.GraphProto, values: dict[str, Input], said: Said) -> list[Node]:
    """Returns the operations in their order, and adds their results to `values`."""
    nodes: list[Node] = []
    for proto in graph.node:
        constant = _constant(proto)
        if constant is not None:
            values[proto.output[0]] = constant
            continue
        node = _node(proto, values, said)
        values |= {name: Wire(len(nodes), output) for output, name in enumerate(proto.output) if name}
        nodes.append(node)
    return nodes


def _branch(graph: onnx.GraphProto, outside: Mapping[str, Input], said: Said) -> tuple[Graph, list[Wire]]:
    """Returns a subgraph of an operation, such as a branch of an `If`, and the outer values that it uses.

    The outer values become inputs after its own, in the order in which its outputs need them. Types and shapes of its
    outputs follow from the rest.
    """
    own_inputs = len(graph.input)
    around = list(dict.fromkeys(value for value in outside.values() if isinstance(value, Wire)))
    outer_wires = {value: Wire(None, own_inputs + index) for index, value in enumerate(around)}
    values: dict[str, Input] = {
        name: outer_wires[value] if isinstance(value, Wire) else value for name, value in outside.items()
    }
    values |= {tensor.name: Constant(_numbers(tensor), tensor.name) for tensor in graph.initializer}
    values |= {value.name: Wire(None, index) for index, value in enumerate(graph.input)}
    nodes = _nodes(graph, values, said)
    results = tuple(values[value.name] for value in graph.output)
    whole = Graph(
        tuple(map(_port, graph.input)), tuple(nodes), tuple(f"output {i}" for i in range(len(results))), results
    )
    used = [wire for node_index in needed(whole) for wire in wires(nodes[node_index])]
    used += [value for value in results if isinstance(value, Wire)]
    outer_used = list(dict.fromkeys(wire for wire in used if wire.node is None and wire.output >= own_inputs))
    moved = {wire: Wire(None, own_inputs + index) for index, wire in enumerate(outer_used)}
    renamed = [
        replace(node, inputs=tuple((name, _moved(value, moved)) for name, value in node.inputs)) for node in nodes
    ]
    inputs = (*whole.inputs, *(f"from outside {index}" for index in range(len(outer_used))))
    branch = replace(
        whole, inputs=inputs, nodes=tuple(renamed), results=tuple(_moved(value, moved) for value in results)
    )
    return branch, [around[wire.output - own_inputs] for wire in outer_used]


def _moved(value: Input, moved: Mapping[Wire, Wire]) -> Input:
    return moved.get(value, value) if isinstance(value, Wire) else value


def _node(proto: onnx.NodeProto, values: Mapping[str, Input], said: Said) -> Node:
    domain, (versions, functions) = _domain(proto.domain), said
    version = versions[domain]
    has_schema = onnx.defs.has(proto.op_type, max_inclusive_version=version, domain=domain)
    schema = onnx.defs.get_schema(proto.op_type, version, domain) if has_schema else None
    settings: dict[str, Any] = {"opset": version if schema is None else schema.since_version}
    if schema is not None:
        defaults = {name: attribute.default_value for name, attribute in schema.attributes.items()}
        settings |= {name: _setting(default) for name, default in defaults.items() if default.type}
    settings |= {entry.name: _setting(entry) for entry in proto.attribute if entry.type != AttributeProto.GRAPH}
    captured: list[tuple[str, Input]] = []
    for attribute in proto.attribute:
        if attribute.type == AttributeProto.GRAPH:
            settings[attribute.name], outer_wires = _branch(attribute.g, values, said)
            captured += [(f"{attribute.name} {index}", wire) for index, wire in enumerate(outer_wires)]
    if functions:  # any of them may redefine the operator
        settings["functions"] = functions
    inputs = [(input_name, values[name]) for input_name, name in zip(_called(proto, schema), proto.input, strict=False)]
    while inputs and inputs[-1][1] is None:
        inputs.pop()
    kind = ".".join(part for part in (domain, proto.op_type, proto.overload) if part)
    return Node(kind, (*inputs, *sorted(captured)), settings, proto.name or proto.output[0])


def _called(proto: onnx.NodeProto, schema: onnx.defs.OpSchema | None) -> Iterator[str]:
    """Yields names of an operator's inputs. Never ends: a variadic operator yields `input N`."""
    names = MICROSOFT_INPUTS.get(proto.op_type, ()) if schema is None else [port.name for port in schema.inputs]
    yield from names
    yield from (f"input {index}" for index in count(len(names)))


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _numbers(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise Malformed(f"the elements of {tensor.name} are in another file")
    return numpy_helper.to_array(tensor)


def _constant(proto: onnx.NodeProto) -> Constant | None:
    """Returns the value of a Constant operation, which equals an initializer. None for other operations."""
    if proto.op_type != "Constant" or _domain(proto.domain) or len(proto.attribute) != 1:
        return None
    (attribute,) = proto.attribute
    value = helper.get_attribute_value(attribute)
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name in types:
        return Constant(np.asarray(value, types[attribute.name]), proto.output[0])
    return Constant(_numbers(value), proto.output[0]) if attribute.name == "value" else None


def _setting(attribute: AttributeProto) -> Any:
    """Returns an attribute's value as plain numbers and texts; for a tensor its type, shape and elements."""
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        array = _numbers(value)
        return array.dtype.name, array.shape, array.tolist()
    if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.TYPE_PROTO):
        return value.SerializeToString(deterministic=True)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, int | float) else list(value)


def _port(value: onnx.ValueInfoProto) -> str:
    """Returns an input or output in words: its name, type and shape. Names of free dimensions are ignored."""
    tensor = value.type.tensor_type
    shape = ["*" if dim.WhichOneof("value") != "dim_value" else str(dim.dim_value) for dim in tensor.shape.dim]
    return f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(shape)}]"
