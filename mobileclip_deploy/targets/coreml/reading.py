"""A package as a neutral graph: what its files say, whatever names, order and encoding they say it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil import Program, load
from mobileclip_deploy.mil.constants import Constant as Stored
from mobileclip_deploy.mil.constexpr import Decompressed
from mobileclip_deploy.mil.graph import Operand, Reference
from mobileclip_deploy.model.variants import TOWERS
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.quiet import quiet

__all__ = ["read_graph"]


def read_graph(path: Path, function: str | None = None) -> Graph:
    """The program of a package, operation by operation: `nodes[n]` is `Program.operations[n]`.

    A compressed weight is no operation: each part of it as stored (`weight.indices`, `weight.lut`) is an input of the
    operation that takes it. Text, such as `pad_type`, is a setting.

    Args:
        function: of a package of several; None for one that holds the tower alone.

    Raises:
        InvalidInput: the package is damaged, or holds other functions than the towers.
    """
    with quiet():
        program = load(path, function, evaluate=False)
    _require_functions(program, function)
    return _Reader(program).graph()


def _require_functions(program: Program, function: str | None) -> None:
    """A tower's package has one function; that of both towers has one of each, and without a name runs the first."""
    expected = ("main",) if function is None else TOWERS
    if set(program.functions) != set(expected) or program.default_function != expected[0]:
        found = f"{', '.join(program.functions)}, without a name {program.default_function}"
        raise InvalidInput(
            f"{program.path} has the functions {found}; expected {', '.join(expected)}, first the default"
        )


class _Reader:
    """`arrays`: constants that were read, by where they stand; one may be used twice."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arrays: dict[int, npt.NDArray[Any]] = {}
        self.wires = {name: Wire(None, place) for place, name in enumerate(program.graph.inputs)}
        for number, node in enumerate(program.graph.nodes):
            self.wires |= {name: Wire(number, place) for place, (name, _) in enumerate(node.outputs)}

    def graph(self) -> Graph:
        said = self.program.graph
        nodes = []
        for node in said.nodes:
            results = ", ".join(str(declared) for _, declared in node.outputs)
            inputs, texts = self._inputs(
                {
                    # One name for one value, a number for each of several: a `concat` takes any number of `values`.
                    parameter if len(bound) == 1 else f"{parameter}.{index}": operand
                    for parameter, bound in sorted(node.operands.items())
                    for index, (_, operand) in enumerate(bound)
                }
            )
            nodes.append(Node(node.kind, inputs, {**texts, "result": results}, node.name))
        return Graph(
            inputs=tuple(f"{name} {declared}" for name, declared in said.inputs.items()),
            nodes=tuple(nodes),
            outputs=tuple(said.outputs),
            results=tuple(self._result(name) for name in said.outputs),
            settings={"opset": self.program.opset, **self.program.specification},
        )

    def _result(self, name: str) -> Input:
        return self.wires[name] if name in self.wires else Constant(self.program.constant(name))

    def _inputs(self, operands: dict[str, Operand]) -> tuple[tuple[tuple[str, Input], ...], dict[str, Any]]:
        """What is taken, by name, and what of it is no tensor: text, how a weight is compressed, types below a byte."""
        inputs: list[tuple[str, Input]] = []
        settings: dict[str, Any] = {}
        for name, operand in operands.items():
            if isinstance(operand, Reference):
                inputs.append((name, self.wires[operand.name]))
            elif isinstance(operand, Decompressed):
                parts = {f"{name}.{part}": value for part, value in sorted(operand.source.operands.items())}
                more, texts = self._inputs(dict(parts))
                inputs += more
                settings |= texts | {name: f"{operand.source.kind}, result {operand.index}, {operand.type}"}
            elif operand.type.kind != "tensor":
                settings[name] = operand.immediate
            elif operand.type.dtype.kind == "string":
                settings[name] = operand.array().tolist()
            else:
                inputs.append((name, Constant(self._array(operand))))
                if operand.type.dtype.bits < 8:  # numpy has no such type: each number stands in a byte of its own
                    settings[name] = str(operand.type)
        return tuple(inputs), settings

    def _array(self, constant: Stored) -> npt.NDArray[Any]:
        if id(constant) not in self.arrays:
            self.arrays[id(constant)] = np.asarray(constant.array())
        return self.arrays[id(constant)]
