"""Opens an ONNX file to be damaged: operations, constants, and weights whatever they are stored as."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]


def called(node: onnx.NodeProto) -> str:
    """What a message calls an operation."""
    return repr(node.name or node.output[0])


class PlantedOnnx:
    """A model and its constants by name, which are written back as they are changed."""

    def __init__(self, content: bytes) -> None:
        self.model = onnx.ModelProto.FromString(content)
        self.graph = self.model.graph
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.model.SerializeToString())

    # Operations

    def all(self, *kinds: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if node.op_type in kinds]

    def find(self, kind: str, number: int = 0) -> onnx.NodeProto:
        return self.all(kind)[number]

    def producer(self, value: str) -> onnx.NodeProto:
        return next(node for node in self.graph.node if value in node.output)

    def users(self, value: str) -> list[onnx.NodeProto]:
        return [node for node in self.graph.node if value in node.input]

    def set(self, node: onnx.NodeProto, name: str, value: Any) -> str:
        """Another value of an attribute; None takes it away."""
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))
        return called(node)

    def append(self, kind: str, *others: str, **settings: Any) -> str:
        """A new operation that computes the output from what was the output."""
        result = self.graph.output[0].name
        source = self.producer(result)
        source.output[0] = f"{result}_{kind}"
        node = helper.make_node(kind, [source.output[0], *others], [result], name=f"planted {kind}", **settings)
        self.graph.node.append(node)
        return called(node)

    # Constants

    def has(self, name: str) -> bool:
        return name in self._tensors

    def array(self, name: str) -> Array:
        """A copy of a constant's numbers."""
        return numpy_helper.to_array(self._tensors[name]).copy()

    def store(self, name: str, values: Array) -> None:
        values = np.asarray(values).astype(self.array(name).dtype)
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def change(self, name: str, change: Callable[[Array], Any]) -> str:
        """Change a constant in place, or for what the function returns; gives who takes it first."""
        values = self.array(name)
        result = change(values)
        self.store(name, values if result is None else result)
        return called(self.users(name)[0])

    def add(self, name: str, values: Any) -> str:
        tensor = numpy_helper.from_array(np.asarray(values), name)
        self.graph.initializer.append(tensor)
        self._tensors[name] = self.graph.initializer[-1]
        return name
