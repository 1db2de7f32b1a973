"""Conversion of protobuf to a checked list of operations: names resolved, constants located, nothing evaluated yet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.constants import MilConstant, WeightFile, read_constant
from mobileclip_deploy.targets.mil.constexpr import Decompressed, Decompression
from mobileclip_deploy.targets.mil.types import ValueType, read_type

_OPSETS = [f"CoreML{number}" for number in range(3, 10)]
_CONTROL_FLOW = ("cond", "while_loop")  # read as unknown ops
_MAX_OPERATIONS = 2**20

Fixed = MilConstant | Decompressed
"""A value that is known before anything runs."""


@dataclass(frozen=True)
class ValueReference:
    """The use of a value by its name."""

    name: str
    type: ValueType


Operand = Fixed | ValueReference
Weights = Callable[[str], WeightFile]


@dataclass(frozen=True)
class Node:
    """An operation that computes something at run time.

    Attributes:
        kind: the op type, such as "conv".
        name: its name.
        operands: for each of its inputs, the values bound to it (several for a variadic input), with their names; None
            for a value that is written in place.
        outputs: names and declared types of its results.
    """

    kind: str
    name: str
    operands: Mapping[str, tuple[tuple[str | None, Operand], ...]]
    outputs: tuple[tuple[str, ValueType], ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


@dataclass(frozen=True)
class Graph:
    """A function of a program.

    Attributes:
        name: of the function.
        inputs: names and declared types.
        fixed: the named constants, in program order.
        nodes: the operations, each after those whose results it uses.
        outputs: the names of the results.
    """

    name: str
    inputs: Mapping[str, ValueType]
    fixed: Mapping[str, Fixed]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]


class _Scope:
    """Values that are defined so far."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.values: dict[str, Operand] = {}
        self.later: set[str] = set()

    def define(self, name: str, value: Operand) -> None:
        if not name or name in self.values:
            raise InvalidInput(f"the value {name!r} is defined twice" if name else "a value has no name")
        self.values[name] = value

    def resolve(self, binding: Any, user: str, parameter: str) -> tuple[str | None, Operand]:
        kind = binding.WhichOneof("binding")
        if kind == "value":
            return None, read_constant(binding.value, self.weights, f"{user}.{parameter}")
        if kind != "name":
            raise InvalidInput(f"the input {parameter!r} of {user} is bound to nothing")
        if binding.name not in self.values:
            reason = "is defined after it is used (a cycle?)" if binding.name in self.later else "is not defined"
            raise InvalidInput(f"the input {parameter!r} of {user} is the value {binding.name!r}, which {reason}")
        return binding.name, self.values[binding.name]


def _text(operation: Any, attribute: str) -> str | None:
    if attribute not in operation.attributes:
        return None
    strings = operation.attributes[attribute].immediateValue.tensor.strings.values
    return str(strings[0]) if len(strings) == 1 else None


def _outputs(operation: Any, user: str) -> tuple[tuple[str, ValueType], ...]:
    return tuple((out.name, read_type(out.type, f"the result {out.name!r} of {user}")) for out in operation.outputs)


def _known_attributes(operation: Any, user: str, allowed: set[str]) -> None:
    unknown = sorted(set(operation.attributes) - allowed - {"name"})
    if unknown:
        raise InvalidInput(f"{user} has the attributes {unknown}, which are not known")


def _read_const(operation: Any, user: str, scope: _Scope) -> None:
    _known_attributes(operation, user, {"val"})
    outputs = _outputs(operation, user)
    if "val" not in operation.attributes or len(outputs) != 1 or operation.inputs:
        raise InvalidInput(f"{user} does not hold exactly one value")
    value = read_constant(operation.attributes["val"], scope.weights, outputs[0][0])
    if value.type != outputs[0][1]:
        raise InvalidInput(f"the constant {outputs[0][0]!r} is {value.type}, declared {outputs[0][1]}")
    scope.define(outputs[0][0], value)


def _read_constexpr(operation: Any, user: str, scope: _Scope) -> None:
    operands: dict[str, MilConstant | Decompressed] = {}
    for parameter, message in operation.attributes.items():
        if parameter != "name":  # iOS 16 and 17 write the inputs as attributes
            operands[parameter] = read_constant(message, scope.weights, f"{user}.{parameter}")
    for parameter, argument in operation.inputs.items():
        bound = [scope.resolve(binding, user, parameter)[1] for binding in argument.arguments]
        if len(bound) != 1 or isinstance(bound[0], ValueReference) or parameter in operands:
            raise InvalidInput(f"the input {parameter!r} of {user} is not one constant")
        operands[parameter] = bound[0]
    outputs = _outputs(operation, user)
    source = Decompression(operation.type, user, operands, tuple(declared for _, declared in outputs))
    for index, (name, declared) in enumerate(outputs):
        if declared.kind != "tensor" or declared.static_shape() is None:
            raise InvalidInput(f"the result {name!r} of {user} is declared {declared}, not a tensor of known shape")
        scope.define(name, Decompressed(source, index))


def _read_node(operation: Any, name: str, user: str, scope: _Scope) -> Node:
    _known_attributes(operation, user, set())
    if operation.blocks and operation.type not in _CONTROL_FLOW:
        raise InvalidInput(f"{user} holds a block, which only {' and '.join(_CONTROL_FLOW)} have")
    operands = {
        parameter: tuple(scope.resolve(binding, user, parameter) for binding in argument.arguments)
        for parameter, argument in operation.inputs.items()
    }
    node = Node(operation.type, name, operands, _outputs(operation, user))
    for output, declared in node.outputs:
        scope.define(output, ValueReference(output, declared))
    return node


def read_graph(function: Any, name: str, weights: Weights) -> Graph:
    """Reads a function of a program.

    Args:
        function: the protobuf message (MILSpec.Function).
        name: its name.
        weights: returns the weight file of a name such as "@model_path/weights/weight.bin".

    Raises:
        InvalidInput: a name is undefined, used before its definition or defined twice; a type or constant is invalid;
            an attribute is unknown.
    """
    if function.opset not in _OPSETS:
        opsets = ", ".join(_OPSETS)
        raise InvalidInput(f"the function {name!r} is written in the opset {function.opset!r}; known are {opsets}")
    if function.opset not in function.block_specializations:
        raise InvalidInput(f"the function {name!r} has no block for its opset {function.opset}")
    block = function.block_specializations[function.opset]
    if len(block.operations) > _MAX_OPERATIONS:
        raise InvalidInput(f"the function {name!r} has {len(block.operations)} operations")
    scope = _Scope(weights)
    scope.later = {output.name for operation in block.operations for output in operation.outputs}
    inputs = {}
    for item in function.inputs:
        inputs[item.name] = read_type(item.type, f"the input {item.name!r}")
        scope.define(item.name, ValueReference(item.name, inputs[item.name]))
    fixed: dict[str, Fixed] = {}
    nodes: list[Node] = []
    for index, operation in enumerate(block.operations):
        first = operation.outputs[0].name if operation.outputs else f"#{index}"
        label = _text(operation, "name") or first
        if not (operation.type.isidentifier() and label.isprintable()):
            raise InvalidInput(f"an operation has the type {operation.type[:50]!r} and the name {label[:50]!r}")
        user = f"{operation.type} {label!r}"
        if operation.type == "const":
            _read_const(operation, user, scope)
        elif operation.type.startswith("constexpr_"):
            _read_constexpr(operation, user, scope)
        else:
            nodes.append(_read_node(operation, label, user, scope))
            continue
        for output in operation.outputs:
            value = scope.values[output.name]
            if not isinstance(value, ValueReference):
                fixed[output.name] = value
    for output in block.outputs:
        if output not in scope.values:
            raise InvalidInput(f"the function {name!r} returns the value {output!r}, which is not defined")
    return Graph(name, inputs, fixed, tuple(nodes), tuple(block.outputs))


def without_quantization(graph: Graph) -> Graph:
    """Returns the program without `quantize` and `dequantize`: users of their results take their inputs.

    Raises:
        InvalidInput: it dequantizes a value that no `quantize` rounded, or returns one that was rounded.
    """
    floats: dict[str | None, tuple[str | None, Operand]] = {}
    nodes = []
    for node in graph.nodes:
        operands = {
            parameter: tuple(floats.get(name, (name, operand)) for name, operand in bound)
            for parameter, bound in node.operands.items()
        }
        if node.kind == "dequantize" and node.operands["input"][0][0] not in floats:
            raise InvalidInput(f"{node} dequantizes a value that was not quantized")
        if node.kind in ("quantize", "dequantize"):
            floats[node.outputs[0][0]] = operands["input"][0]
        else:
            nodes.append(replace(node, operands=operands))
    if rounded := floats.keys() & set(graph.outputs):
        raise InvalidInput(f"the function {graph.name!r} returns {rounded.pop()!r}, which is rounded to integers")
    return replace(graph, nodes=tuple(nodes))
