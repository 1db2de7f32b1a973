"""Description of a program for inspection and for lint rules: its operations and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobileclip_deploy.targets.mil.constants import MilConstant
from mobileclip_deploy.targets.mil.constexpr import Decompressed
from mobileclip_deploy.targets.mil.graph import Fixed, Graph, Node, Operand, ValueReference


@dataclass(frozen=True)
class Argument:
    """An input or result of an operation.

    Attributes:
        name: of the value; None for a constant that is written in place.
        dtype: numpy's name of the element type, or MIL's for sub-byte types ("int4").
        shape: one entry per dimension, None if it is known at run time only.
        constant: True if it is known before anything runs.
    """

    name: str | None
    dtype: str
    shape: tuple[int | None, ...]
    constant: bool


@dataclass(frozen=True)
class Operation:
    """An operation that computes something at run time (constants and constexpr ops are `Weight`s).

    Attributes:
        type: the op type, such as "conv".
        name: its name.
        inputs: the values bound to each of its inputs; several for a variadic input.
        outputs: its results.
        weight_bytes: the bytes, as stored, of the constants bound to it.
    """

    type: str
    name: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[Argument, ...]
    weight_bytes: int
    _fixed: Mapping[str, tuple[Operand, ...]] = field(repr=False, compare=False)

    def constant(self, parameter: str) -> Any:
        """Returns the value of a constant input: text, a list, or a numpy array (0-d for a scalar). None if it has no
        such input.

        Raises:
            InvalidInput: it is a compressed weight that cannot be decompressed.
        """
        bound = self._fixed.get(parameter, ())
        if len(bound) != 1 or isinstance(bound[0], ValueReference):
            return None
        value = bound[0]
        if isinstance(value, MilConstant) and value.type.kind == "list":
            return list(value.immediate)
        array = value.array()
        return str(array.reshape(-1)[0]) if value.type.dtype.kind == "string" and array.size == 1 else np.asarray(array)


@dataclass(frozen=True)
class Weight:
    """A constant that an operation takes as a numeric tensor.

    Attributes:
        name: of the value.
        dtype: the element type that the operation receives.
        shape: its shape.
        bytes: as stored, with all data that decompression needs.
        kind: "const", or its constexpr op types, the first applied first, joined by "+".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    kind: str


def describe_operation(node: Node) -> Operation:
    operands = {parameter: tuple(operand for _, operand in bound) for parameter, bound in node.operands.items()}
    fixed = [operand for bound in operands.values() for operand in bound if not isinstance(operand, ValueReference)]
    inputs = {
        parameter: tuple(
            Argument(name, operand.type.dtype.name, operand.type.shape, not isinstance(operand, ValueReference))
            for name, operand in bound
        )
        for parameter, bound in node.operands.items()
    }
    outputs = tuple(Argument(name, declared.dtype.name, declared.shape, False) for name, declared in node.outputs)
    return Operation(node.kind, node.name, inputs, outputs, sum(operand.nbytes for operand in fixed), operands)


def _is_weight(value: Fixed) -> bool:
    if isinstance(value, Decompressed):
        return True
    return value.blob is not None or (
        value.type.kind == "tensor" and value.type.dtype.kind == "float" and value.shape != ()
    )


def describe_weights(graph: Graph) -> tuple[Weight, ...]:
    """Returns the weights of a function, in program order: from the weight file, compressed, or vectors of floats.

    A value that only another constexpr op uses is counted with that one.
    """
    inner = {
        id(operand.source)
        for value in graph.fixed.values()
        if isinstance(value, Decompressed)
        for operand in value.source.operands.values()
        if isinstance(operand, Decompressed)
    }
    weights = []
    for name, value in graph.fixed.items():
        if not _is_weight(value) or (isinstance(value, Decompressed) and id(value.source) in inner):
            continue
        kind = "+".join(value.kinds) if isinstance(value, Decompressed) else "const"
        shape = tuple(dim or 0 for dim in value.type.shape)
        weights.append(Weight(name, value.type.dtype.name, shape, value.nbytes, kind))
    return tuple(weights)
