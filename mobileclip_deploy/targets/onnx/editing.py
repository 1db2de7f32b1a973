"""Changing an ONNX graph in place: constants replaced where they lie, nodes rewritten in order, dead ones dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Graph", "Rewrite"]

Array = npt.NDArray[Any]
Rewrite = Callable[[Any], "list[Any] | None"]
"""A node -> the nodes that take its place; None leaves it."""


class Graph:
    """An `onnx.ModelProto`'s graph, with its constants by name.

    A constant that is replaced is overwritten where it lies: the largest tower has 1.3 GB of them.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        self._taken = set(self._constants) | {name for node in model.graph.node for name in node.output}

    @property
    def nodes(self) -> list[Any]:
        """All nodes, in the order in which they run."""
        return list(self.model.graph.node)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a constant; None for what is none."""
        return tuple(self._constants[name].dims) if name in self._constants else None

    def value(self, name: str) -> Array:
        """A constant's values."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[name])

    def users(self, name: str) -> list[Any]:
        """The nodes that take a value."""
        return [node for node in self.model.graph.node if name in node.input]

    def fresh(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        choice, number = name, 1
        while choice in self._taken:
            choice, number = f"{name}_{number}", number + 1
        self._taken.add(choice)
        return choice

    def add(self, name: str, values: Array) -> str:
        """A new constant; gives the name it got."""
        from onnx import numpy_helper

        return self.add_tensor(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def add_tensor(self, tensor: Any) -> str:
        """A new constant as onnx's TensorProto; gives the name it got."""
        tensor.name = self.fresh(tensor.name)
        self.model.graph.initializer.append(tensor)
        self._constants[tensor.name] = self.model.graph.initializer[-1]
        return str(tensor.name)

    def replace(self, name: str, new: str, values: Array) -> str:
        """Overwrite a constant by another, of another name, type or shape; gives the name it got."""
        from onnx import numpy_helper

        return self.replace_tensor(name, numpy_helper.from_array(np.ascontiguousarray(values), new))

    def replace_tensor(self, name: str, tensor: Any) -> str:
        """Overwrite a constant by onnx's TensorProto; gives the name it got."""
        tensor.name = self.fresh(tensor.name)
        self._constants[name].CopyFrom(tensor)
        self._constants[tensor.name] = self._constants.pop(name)
        return str(tensor.name)

    def rewrite(self, change: Rewrite) -> None:
        """Offer every node to `change`, then drop what nothing uses any more."""
        nodes: list[Any] = []
        for node in self.nodes:
            instead = change(node)
            nodes += [node] if instead is None else instead
        self.set_nodes(nodes)

    def set_nodes(self, nodes: Iterable[Any]) -> None:
        """These nodes and no others, without those whose results are not used."""
        wanted = {output.name for output in self.model.graph.output}
        kept: list[Any] = []
        for node in reversed(list(nodes)):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        copies = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
        for index in reversed(range(len(self.model.graph.initializer))):
            name = self.model.graph.initializer[index].name
            if name not in wanted:
                del self.model.graph.initializer[index]
                self._constants.pop(name, None)

    def require_opset(self, domain: str, version: int) -> None:
        """Have the model import a set of operators."""
        from onnx import helper

        if not any(entry.domain == domain for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, version))

    def operators(self) -> Counter[str]:
        """How often each operator type occurs."""
        return Counter(node.op_type for node in self.model.graph.node)
