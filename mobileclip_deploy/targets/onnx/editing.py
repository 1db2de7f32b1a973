"""Changing a graph of onnx_ir in place: constants and nodes by others that stand where they stood, under free names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

Array = npt.NDArray[Any]


def op(
    kind: str, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value], domain: str = "", **attributes: Any
) -> ir.Node:
    """A node without a name of its own."""
    return ir.node(kind, inputs, attributes, domain=domain, outputs=outputs, name="")


def array(value: ir.Value | None) -> Array | None:
    """A constant's values, not to be written to (they may be the network's own); None for what is none."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


class Editor:
    """A model's graph. Nothing is copied: the largest tower has 1.3 GB of weights, which stay the network's own."""

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph = model, model.graph
        self._taken = {*self.graph.initializers, *(value.name for node in self.graph for value in node.outputs)}

    def value(self, name: str) -> ir.Value:
        """A value for a new node to compute, with a number behind the name where it is taken."""
        return ir.Value(name=self._free(name))

    def constant(self, name: str, values: Array | ir.TensorProtocol) -> ir.Value:
        """A new constant, behind all others."""
        tensor = ir.tensor(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
        new = ir.Value(name=self._free(name), const_value=tensor)
        self.graph.initializers.add(new)
        return new

    def instead(self, old: ir.Value, name: str, values: Array | ir.TensorProtocol) -> ir.Value:
        """A new constant in the place of one whose users are about to be replaced."""
        others = list(self.graph.initializers.values())
        new = self.constant(name, values)
        self.graph.initializers.clear()
        for value in others:
            self.graph.initializers.add(new if value is old else value)
        return new

    def replace(self, node: ir.Node, nodes: Sequence[ir.Node]) -> None:
        """Nodes in the place of one; the result of the last gets its name and its users."""
        nodes[-1].outputs[0].doc_string = node.outputs[0].doc_string
        ir.convenience.replace_nodes_and_values(self.graph, node, [node], nodes, node.outputs, nodes[-1].outputs)

    def take_users(self, value: ir.Value, name: str) -> ir.Value:
        """A value that gets another's users and its name, and is to be computed from it; `name` is what that gets."""
        new = ir.Value(name=value.name, type=value.type, shape=value.shape, doc_string=value.doc_string)
        value.replace_all_uses_with(new, replace_graph_outputs=True)
        value.name = self._free(name)
        return new

    def drop_unused(self) -> None:
        """Remove nodes and constants whose values nothing takes."""
        RemoveUnusedNodesPass()(self.model)

    def _free(self, name: str) -> str:
        choice, number = name, 1
        while choice in self._taken:
            choice, number = f"{name}_{number}", number + 1
        self._taken.add(choice)
        return choice
