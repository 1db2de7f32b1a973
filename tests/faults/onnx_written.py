"""A `Graph` written as an ONNX file: what was planted in a graph is then in a file that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import onnx
from faults.graphs import PlantedGraph
from onnx import AttributeProto, helper, numpy_helper

from mobileclip_deploy.targets.graph import Graph, Input, Node, Wire, needed

TYPES = {"half": "FLOAT16"}
PORT = re.compile(r"(\S+) (\w+) \[(.*)\]")


def onnx_written(planted: PlantedGraph, model: onnx.ModelProto) -> onnx.ModelProto:
    """The file of a planted graph.

    Args:
        model: the file whose graph was planted in. Its operations keep their settings but for those that were changed.
    """
    return _Writer(planted.done(), model).written()


class _Writer:
    def __init__(self, graph: Graph, model: onnx.ModelProto) -> None:
        self.graph, self.model = graph, model
        self.healthy = [node for node in model.graph.node if node.op_type != "Constant"]
        self.inputs, self.outputs = (list(map(_port, ports)) for ports in (graph.inputs, graph.outputs))
        self.initializers: dict[int, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []

    def written(self) -> onnx.ModelProto:
        used: dict[int, int] = {}
        order = needed(self.graph)
        taken = [value for number in order for _, value in self.graph.nodes[number].inputs]
        for value in (*taken, *self.graph.results):
            if isinstance(value, Wire) and value.node is not None:
                used[value.node] = max(used.get(value.node, 0), value.output + 1)
        for number in order:
            own = self.healthy[number] if number < len(self.healthy) else None
            self.nodes.append(self._node(self.graph.nodes[number], number, used[number], own))
        for output, result in zip(self.outputs, self.graph.results, strict=True):
            self.nodes.append(helper.make_node("Identity", [self._name(result)], [output.name]))
        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        made.graph.CopyFrom(
            helper.make_graph(self.nodes, "planted", self.inputs, self.outputs, list(self.initializers.values()))
        )
        return made

    def _node(self, node: Node, number: int, outputs: int, own: onnx.NodeProto | None) -> onnx.NodeProto:
        domain, _, kind = node.type.rpartition(".")
        count = max(outputs, len(own.output) if own is not None and own.op_type == kind else 0)
        made = helper.make_node(
            kind,
            [self._name(value) for _, value in node.inputs],
            [f"value_{number}_{output}" for output in range(count)],
            name=node.name,
            domain=domain,
        )
        made.attribute.extend(_attributes(node, own))
        return made

    def _name(self, value: Input) -> str:
        if value is None:
            return ""
        if isinstance(value, Wire):
            return self.inputs[value.output].name if value.node is None else f"value_{value.node}_{value.output}"
        if id(value) not in self.initializers:
            self.initializers[id(value)] = numpy_helper.from_array(value.values, f"constant_{len(self.initializers)}")
        return self.initializers[id(value)].name


def _attributes(node: Node, own: onnx.NodeProto | None) -> Iterator[AttributeProto]:
    """Those of the healthy operation whose settings are as they were, and the settings that were changed."""
    kept = {} if own is None else {one.name: one for one in own.attribute}
    domain, _, kind = node.type.rpartition(".")
    known = onnx.defs.get_schema(kind, domain=domain).attributes if onnx.defs.has(kind, domain) else None
    for name, setting in node.settings.items():
        if name == "opset":
            continue
        default = known[name].default_value if known is not None and name in known else AttributeProto()
        if name in kept and _same(helper.get_attribute_value(kept[name]), setting):
            yield kept[name]
        elif name in kept or not default.type or not _same(helper.get_attribute_value(default), setting):
            yield helper.make_attribute(name, setting)


def _same(value: Any, setting: Any) -> bool:
    if isinstance(value, onnx.TensorProto):
        return isinstance(setting, tuple)  # which nothing is planted in
    told = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return bool((told if isinstance(told, int | float | str) else list(told)) == setting)


def _port(text: str) -> onnx.ValueInfoProto:
    """An input or output of the words in which a graph has it (`name type [shape]`)."""
    match = PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"no port: {text}")
    name, kind, shape = match.groups()
    sizes = [f"free_{place}" if size == "*" else int(size) for place, size in enumerate(shape.split(", ")) if size]
    return helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(TYPES.get(kind, kind.upper())), sizes)
