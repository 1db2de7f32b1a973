"""Opens an ONNX file to be damaged: operations, constants, and weights whatever they are stored as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

__all__ = ["PlantedOnnx", "Weight"]

Array = npt.NDArray[Any]
PRODUCTS = ("Conv", "MatMul", "Gemm")
# The operations that take stored weights, beside those that take floats.
STORED = ("Cast", "DequantizeLinear", "MatMulInteger", "MatMulNBits")


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

    def insert(self, value: str, kind: str, *others: str, **settings: Any) -> str:
        """A new operation between a value and all that take it; its other inputs are constants or the graph's own."""
        new = f"{value}_{kind}"
        for user in self.graph.node:
            user.input[:] = [new if name == value else name for name in user.input]
        node = helper.make_node(kind, [value, *others], [new], name=f"planted {kind}", **settings)
        made = [index for index, known in enumerate(self.graph.node) if value in known.output]
        self.graph.node.insert(max(made, default=-1) + 1, node)
        return called(node)

    def append(self, kind: str, *others: str, **settings: Any) -> str:
        """A new operation that computes the output from what was the output."""
        result = self.graph.output[0].name
        source = self.producer(result)
        source.output[0] = f"{result}_{kind}"
        node = helper.make_node(kind, [source.output[0], *others], [result], name=f"planted {kind}", **settings)
        self.graph.node.append(node)
        return called(node)

    def bypass(self, node: onnx.NodeProto, kept: str) -> str:
        """Have what takes an operation's result take one of its inputs; gives the first of those."""
        users = self.users(node.output[0])
        for user in users:
            user.input[:] = [kept if name == node.output[0] else name for name in user.input]
        self.graph.node.remove(node)
        return called(users[0])

    # Constants

    def has(self, name: str) -> bool:
        return name in self._tensors

    def array(self, name: str) -> Array:
        """A copy of a constant's numbers."""
        return numpy_helper.to_array(self._tensors[name]).copy()

    def store(self, name: str, values: Array) -> None:
        """Other numbers of a constant, of the same type."""
        values = np.asarray(values).astype(self.array(name).dtype)
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def change(self, name: str, change: Callable[[Array], Any]) -> str:
        """Change a constant in place, or for what the function returns; gives who takes it first."""
        values = self.array(name)
        result = change(values)
        self.store(name, values if result is None else result)
        return called(self.users(name)[0])

    def add(self, name: str, values: Any) -> str:
        """A new constant."""
        tensor = numpy_helper.from_array(np.asarray(values), name)
        self.graph.initializer.append(tensor)
        self._tensors[name] = self.graph.initializer[-1]
        return name

    # Weights

    def weights(self) -> list[Weight]:
        """Weights of products and of convolutions but depthwise ones, in the graph's order, without the projection."""
        found = [weight for weight in self._weights() if min(weight.get().shape[:2]) > 8]
        return [weight for weight in found if weight.name != "earlier" and "projection" not in weight.name]

    def table(self) -> Weight:
        """The rows of words."""
        return next(weight for weight in self._weights(tables=True) if "token_embedding" in weight.name)

    def _weights(self, *, tables: bool = False) -> Iterator[Weight]:
        for node in self.graph.node:
            index = 0 if node.op_type in ("Gather", "Cast", "DequantizeLinear") else 1
            name = node.input[index] if len(node.input) > index else ""
            if not self.has(name) or node.op_type not in (*PRODUCTS, *STORED, "Gather"):
                continue
            if (node.op_type == "Gather") != tables or len(self._tensors[name].dims) < 2:
                continue
            yield Weight(self, name, node)


@dataclass
class Weight:
    """A weight as it is stored: floats, or integers with scales."""

    p: PlantedOnnx
    name: str
    node: onnx.NodeProto

    @property
    def named(self) -> str:
        """What the check calls what takes the numbers."""
        return called(self.node)

    @property
    def scales(self) -> str | None:
        stem, _, kind = self.name.rpartition("_")
        return f"{stem}_scale" if kind in ("int8", "int4") else None

    @property
    def _outputs(self) -> int:
        """The dimension of what is stored that holds outputs: products take inputs first."""
        products = ("MatMul", "Cast", "DequantizeLinear", "MatMulInteger")
        return 1 if self.node.op_type in products and self.p.array(self.name).ndim == 2 else 0

    @property
    def _packed(self) -> bool:
        return self.p.array(self.name).dtype == np.uint8  # two numbers a byte, of a product or a table

    def get(self) -> Array:
        """The numbers as they are stored (integers as int64), outputs first."""
        stored = self.p.array(self.name)
        if self._packed:  # [O, blocks, bytes of two]
            return np.stack((stored & 15, stored >> 4), axis=-1).reshape(len(stored), -1).astype(np.int64) - 8
        wide = stored if stored.dtype.kind == "f" else stored.astype(np.int64)
        return wide.swapaxes(0, self._outputs)

    def set(self, values: Array) -> str:
        """Other numbers; gives who takes them."""
        if self._packed:
            raw = (values + 8).astype(np.uint8)
            self.p.store(self.name, (raw[:, ::2] | raw[:, 1::2] << 4).reshape(self.p.array(self.name).shape))
        else:
            self.p.store(self.name, values.swapaxes(0, self._outputs))
        return self.named

    def change(self, change: Callable[[Array], Any]) -> str:
        values = self.get()
        result = change(values)
        return self.set(values if result is None else result)

    def scale(self, factor: float, outputs: slice = slice(None)) -> str:
        """Scale some outputs; gives who takes the scales, or the numbers where there are none."""

        def change(values: Array) -> None:
            axis = int(np.argmax(values.shape)) if 1 in values.shape else 0
            values.swapaxes(0, axis)[outputs] *= values.dtype.type(factor)

        def change_numbers(values: Array) -> None:
            values[outputs] *= values.dtype.type(factor)

        return self.change(change_numbers) if self.scales is None else self.p.change(self.scales, change)
