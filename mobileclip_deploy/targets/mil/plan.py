"""Execution plan of a program: operands bound to kernels, types and shapes checked, lifetimes computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.constants import MilConstant
from mobileclip_deploy.targets.mil.graph import Fixed, Graph, Node, Operand, ValueReference
from mobileclip_deploy.targets.mil.ops import OPS, Kernel, Parameter
from mobileclip_deploy.targets.mil.types import DType, numel

Lookup = Callable[[Operand, bool], torch.Tensor]


class UnsupportedOperation(InvalidInput):
    """Error of a program with ops that this evaluator does not define.

    Attributes:
        operations: op type -> names of the operations of that type, in program order.
    """

    def __init__(self, operations: Mapping[str, Sequence[str]]) -> None:
        self.operations = {kind: tuple(names) for kind, names in operations.items()}
        listed = "; ".join(
            f"{kind} (at {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
            for kind, names in self.operations.items()
        )
        super().__init__(f"the program holds ops that the evaluator does not know: {listed}")


@dataclass(frozen=True)
class Step:
    """An operation that is ready to run.

    Attributes:
        node: the operation.
        kernel: its definition.
        values: inputs that are Python values known from the start.
        late: inputs that are Python values, read from a computed tensor.
        tensors: inputs that are tensors; those of a variadic input in a tuple of several.
        last: the names of the values that nothing uses after this step.
    """

    node: Node
    kernel: Kernel
    values: Mapping[str, Any]
    late: tuple[tuple[Parameter, ValueReference], ...]
    tensors: tuple[tuple[Parameter, tuple[Operand, ...]], ...]
    last: tuple[str, ...]


def unsupported(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Returns op types that the evaluator does not define, with the names of their operations."""
    undefined: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if node.kind not in OPS:
            undefined[node.kind] = (*undefined.get(node.kind, ()), node.name)
    return undefined


def _convert(values: list[Any], kind: str, what: str) -> Any:
    """Converts Python values read from a tensor to the type of a parameter of this kind."""
    accepted: dict[str, type | tuple[type, ...]] = {
        "int": int, "ints": int, "float": (int, float), "bool": bool, "bools": bool, "str": str,
    }  # fmt: skip
    expected = accepted[kind]
    for value in values:
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise InvalidInput(f"{what} holds {value!r}, expected {kind.rstrip('s')} values")
    if kind in ("ints", "bools"):
        return tuple(values)
    if len(values) != 1:
        raise InvalidInput(f"{what} holds {len(values)} values, expected one")
    return float(values[0]) if kind == "float" else values[0]


def _python(value: Fixed, kind: str, what: str) -> Any:
    if kind == "labels":
        if not isinstance(value, MilConstant) or value.type.kind != "list":
            raise InvalidInput(f"{what} is {value.type}, expected a list")
        return value.immediate
    array = value.array()
    if array.ndim > 1 or array.size > 2**16:
        raise InvalidInput(f"{what} has shape {list(array.shape)}, expected a scalar or a vector")
    return _convert(array.reshape(-1).tolist(), kind, what)


def _bind(node: Node, kernel: Kernel, last: tuple[str, ...]) -> Step:
    values: dict[str, Any] = {}
    late: list[tuple[Parameter, ValueReference]] = []
    tensors: list[tuple[Parameter, tuple[Operand, ...]]] = []
    for name, bound in node.operands.items():
        parameter = kernel.parameters.get(name)
        if parameter is None:
            raise InvalidInput(f"{node} has the input {name!r}, which the evaluator does not know for this op")
        operands = tuple(operand for _, operand in bound)
        if not operands or (len(operands) != 1 and parameter.kind != "tensors"):
            raise InvalidInput(f"the input {name!r} of {node} has {len(operands)} values")
        operand = operands[0]
        if parameter.kind in ("tensor", "tensors", "stored"):
            for tensor in operands:
                if tensor.type.kind != "tensor" or tensor.type.dtype.kind == "string":
                    raise InvalidInput(f"the input {name!r} of {node} is {tensor.type}, expected numbers")
            tensors.append((parameter, operands))
        elif isinstance(operand, ValueReference) and parameter.kind in ("str", "labels"):
            raise InvalidInput(f"the input {name!r} of {node} is not a constant")
        elif isinstance(operand, ValueReference):
            late.append((parameter, operand))
        else:
            values[name] = _python(operand, parameter.kind, f"the input {name!r} of {node}")
    for parameter in kernel.parameters.values():
        if parameter.required and parameter.name not in node.operands:
            raise InvalidInput(f"{node} lacks the input {parameter.name!r}")
    return Step(node, kernel, values, tuple(late), tuple(tensors), last)


def _check_types(step: Step) -> None:
    """Checks the declared element types of the results against those of the op."""
    node, kernel = step.node, step.kernel
    types = {name: bound[0][1].type.dtype for name, bound in node.operands.items()}
    dtypes = {
        operand.type.dtype.name for name in kernel.same if name in node.operands for _, operand in node.operands[name]
    }
    if len(dtypes) > 1:
        raise InvalidInput(f"{node} mixes the element types {sorted(dtypes)}")
    rule = kernel.result
    if rule is None:
        return
    named = types[rule] if isinstance(rule, str) else rule
    expected = named if isinstance(named, DType) else named(types, step.values)
    for name, declared in node.outputs:
        if declared.kind != "tensor" or declared.dtype != expected:
            raise InvalidInput(f"the result {name!r} of {node} is declared {declared}, the op yields {expected}")


def make_plan(graph: Graph) -> tuple[Step, ...]:
    """Binds every operation of a function to its definition.

    Raises:
        UnsupportedOperation: it contains ops without definition.
        InvalidInput: an input is unknown, missing or of a wrong kind; element types contradict each other.
    """
    missing = unsupported(graph)
    if missing:
        raise UnsupportedOperation(missing)
    last_use: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        for bound in node.operands.values():
            for _, operand in bound:
                if isinstance(operand, ValueReference):
                    last_use[operand.name] = index
        for name, _ in node.outputs:
            last_use.setdefault(name, index)
    ends: dict[int, list[str]] = {}
    for name, index in last_use.items():
        if name not in graph.outputs:
            ends.setdefault(index, []).append(name)
    steps = []
    for index, node in enumerate(graph.nodes):
        step = _bind(node, OPS[node.kind], tuple(ends.get(index, ())))
        _check_types(step)
        steps.append(step)
    return tuple(steps)


def call(step: Step, lookup: Lookup) -> tuple[Any, ...]:
    """Runs the definition of an operation and checks its results against the declared ones.

    Args:
        step: the operation.
        lookup: returns the tensor of an operand: as stored if the second argument is True, else in the type for
            arithmetic.

    Raises:
        InvalidInput: the op is not defined on these values, or yields another shape or type than declared.
    """
    arguments: dict[str, Any] = dict(step.values)
    try:
        for parameter, reference in step.late:
            tensor = lookup(reference, False)
            what = f"the input {parameter.name!r}"
            if tensor.dim() > 1:
                raise InvalidInput(f"{what} has rank {tensor.dim()}, expected a scalar or a vector")
            arguments[parameter.name] = _convert(tensor.reshape(-1).tolist(), parameter.kind, what)
        for parameter, operands in step.tensors:
            tensors = [lookup(operand, parameter.kind == "stored") for operand in operands]
            arguments[parameter.name] = tensors if parameter.kind == "tensors" else tensors[0]
        results = step.kernel.function(**arguments)
    except InvalidInput as error:
        raise InvalidInput(f"{step.node}: {error}") from None
    except (RuntimeError, IndexError, ValueError, TypeError, OverflowError, ZeroDivisionError):
        raise InvalidInput(f"{step.node} is not defined on inputs of these shapes and values") from None
    return _checked(step, results if isinstance(results, tuple) else (results,))


def _checked(step: Step, results: tuple[Any, ...]) -> tuple[Any, ...]:
    outputs = step.node.outputs
    if len(results) != len(outputs):
        raise InvalidInput(f"{step.node} declares {len(outputs)} results, it has {len(results)}")
    if step.kernel.result is None:
        return results
    checked = []
    for (name, declared), result in zip(outputs, results, strict=True):
        if not declared.admits(tuple(result.shape)):
            shape = list(result.shape)
            raise InvalidInput(f"the result {name!r} of {step.node} has shape {shape}, declared {declared}")
        compute = declared.dtype.compute
        if result.dtype != compute and result.is_floating_point() and compute.is_floating_point:
            result = result.to(compute)
        if result.dtype != compute:
            raise InvalidInput(f"the result {name!r} of {step.node} is {result.dtype}, declared {declared}")
        checked.append(result)
    return tuple(checked)


def check_shapes(graph: Graph, steps: tuple[Step, ...]) -> None:
    """Derives the shape of every value without computing any, and checks it against the declared one.

    Only for inputs with a static shape. An op whose shape depends on values is not checked here, but when it runs.

    Raises:
        InvalidInput: a shape differs from the declared one, or a value would be too large.
    """
    if any(declared.static_shape() is None for declared in graph.inputs.values()):
        return
    metas = {
        name: torch.empty(declared.static_shape() or (), dtype=declared.dtype.compute, device="meta")
        for name, declared in graph.inputs.items()
    }

    def lookup(operand: Operand, _: bool) -> torch.Tensor:
        if isinstance(operand, ValueReference):
            return metas[operand.name]
        return torch.empty(tuple(n or 0 for n in operand.type.shape), dtype=operand.type.dtype.compute, device="meta")

    for step in steps:
        if step.kernel.result is None:
            continue
        for name, declared in step.node.outputs:
            shape = declared.static_shape()
            if shape is None:
                return
            numel(shape, f"the result {name!r} of {step.node}")
            metas[name] = torch.empty(shape, dtype=declared.dtype.compute, device="meta")
        if not step.late and step.kernel.shape is not None:
            _check_rule(step, step.kernel.shape)
        elif not step.late:
            call(step, lookup)


def _check_rule(step: Step, rule: str | Callable[..., tuple[int, ...]]) -> None:
    shapes = {
        parameter.name: tuple(tuple(n or 0 for n in operand.type.shape) for operand in operands)
        for parameter, operands in step.tensors
    }
    try:
        shape = shapes[rule][0] if isinstance(rule, str) else rule(shapes, step.values)
    except InvalidInput as error:
        raise InvalidInput(f"{step.node}: {error}") from None
    except (ValueError, IndexError, ZeroDivisionError):
        raise InvalidInput(f"{step.node} is not defined on inputs of these shapes and values") from None
    for name, declared in step.node.outputs:
        if not declared.admits(shape):
            raise InvalidInput(f"the result {name!r} of {step.node} has shape {list(shape)}, declared {declared}")
