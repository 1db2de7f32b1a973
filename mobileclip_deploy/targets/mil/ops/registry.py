"""The table of ops: a function per op, whose signature declares the op's inputs and their conversion.

The annotation of a parameter decides the type of the function's argument:

- `Tensor`: a torch tensor (float16 values come in float32); `Tensors`: a list of them;
- `Stored`: a tensor as it is stored, float16 included, so that a large table is not converted as a whole;
- `int`, `float`, `bool`, `str`, `Ints`, `Bools`, `Labels`: a Python value. A constant input is read once when the
  program is built, another one from the computed tensor.

A parameter without default is required; an input that the function does not name is an error when the program is built.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NewType

import numpy as np
import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil.types import BY_NAME, DType

Tensor = torch.Tensor
Tensors = list[torch.Tensor]
Stored = NewType("Stored", torch.Tensor)
Ints = tuple[int, ...]
Bools = tuple[bool, ...]
Labels = list[Any]

Types = Mapping[str, DType]
Values = Mapping[str, Any]
Shape = tuple[int, ...]
Shapes = Mapping[str, tuple[Shape, ...]]
ShapeRule = str | Callable[[Shapes, Values], Shape]
ResultRule = str | DType | None | Callable[[Types, Values], DType]

_KINDS: dict[Any, str] = {
    Tensor: "tensor",
    Tensors: "tensors",
    Stored: "stored",
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    Ints: "ints",
    Bools: "bools",
    Labels: "labels",
}


@dataclass(frozen=True)
class Parameter:
    """An input of an op: its name, its conversion (a key of the module's docstring) and whether it is required."""

    name: str
    kind: str
    required: bool


@dataclass(frozen=True)
class Kernel:
    """Definition of an op for the evaluator.

    Attributes:
        function: computes it.
        parameters: its inputs by name.
        result: element type of its results: the name of an input with the same type, a type, or a function of the
            inputs' types and constant values. None if the result is not a tensor.
        same: inputs that must have one element type.
        exact: True if results contain only values of the inputs, so that nothing is rounded.
        shape: shape of every result: the name of an input with the same shape, or a function of the inputs' shapes
            (several for a variadic input) and constant values. If None, the function itself is run on torch's meta
            tensors; only cheap ops do that, since many meta kernels import torch._dynamo.
    """

    function: Callable[..., Any]
    parameters: Mapping[str, Parameter]
    result: ResultRule
    same: tuple[str, ...]
    exact: bool
    shape: ShapeRule | None


_TABLE: dict[str, Kernel] = {}
OPS: Mapping[str, Kernel] = MappingProxyType(_TABLE)
"""Kernels by op type."""


def _kind(annotation: Any) -> str:
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if typing.get_origin(annotation) not in (list, tuple) and len(options) == 1:
        annotation = options[0]
    return _KINDS[annotation]


def op(
    name: str,
    result: ResultRule = "x",
    same: tuple[str, ...] = (),
    exact: bool = False,
    shape: ShapeRule | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the definition of the op `name`. See `Kernel` for the rest."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(function)
        parameters = {
            called: Parameter(called, _kind(hints[called]), parameter.default is inspect.Parameter.empty)
            for called, parameter in inspect.signature(function).parameters.items()
        }
        _TABLE[name] = Kernel(function, MappingProxyType(parameters), result, same, exact, shape)
        return function

    return register


def axes_of(axes: Ints, rank: int) -> list[int]:
    """Returns axes of a value of that rank, in the given order, counted from its first dimension.

    Raises:
        InvalidInput: one is outside.
    """
    if any(not -rank <= axis < rank for axis in axes):
        raise InvalidInput(f"the axes {list(axes)} are outside a value of rank {rank}")
    return [axis % rank for axis in axes]


def broadcast(shapes: Shapes, values: Values) -> Shape:
    """Returns the inputs' shapes, broadcast as in numpy: the shape rule of elementwise ops.

    Raises:
        ValueError: they do not broadcast.
    """
    return tuple(np.broadcast_shapes(*(shape for group in shapes.values() for shape in group)))


def dtype_named(name: str) -> DType:
    """Returns the element type that a `dtype` input names, such as "fp16".

    Raises:
        InvalidInput: no such type.
    """
    if name not in BY_NAME:
        raise InvalidInput(f"{name!r} names no element type")
    return BY_NAME[name]
