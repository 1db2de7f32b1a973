"""An .aimodel opened, and its program as a graph: what it says, whatever names, order and encoding it says it with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.model.variants import TOWERS
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.coreai.asset import Asset, TensorType, operations, tensor_type
from mobileclip_deploy.targets.coreai.authoring import FUNCTION
from mobileclip_deploy.targets.coreai.weights import TABLE
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.values import Runner, TensorInfo

if TYPE_CHECKING:
    from mobileclip_deploy.mil.lint import LintReport
    from mobileclip_deploy.targets.inspection import PackageInspection

__all__ = ["CoreAIArtifact", "graph_of", "named_ports"]

CONSTANT, CALL, OUTPUT = "coreai.constant", "coreai.invoke", "coreai.output"
PORT_NAME = re.compile(r'coreai\.name = "([^"]*)"')
SYMBOL = re.compile(r"@([\w.$-]+)")
# Attributes of a function that are no settings: its name may be any, its types are those of its operations.
NO_SETTING = ("sym_name", "function_type", "arg_attrs", "res_attrs")


class CoreAIArtifact(Artifact):
    """An .aimodel, or one function of it.

    Args:
        function: of one of several; None for one that holds the tower alone.
    """

    weight_table = TABLE

    def __init__(self, path: Path, function: str | None = None) -> None:
        super().__init__(path)
        self.function = function

    @cached_property
    def asset(self) -> Asset:
        """The program; nobody may change it."""
        return Asset(self.path)

    @cached_property
    def _ports(self) -> tuple[list[TensorInfo], list[TensorInfo]]:
        from mobileclip_deploy.targets.coreai.inspection import ports_of

        return ports_of(self.asset, self.asset.function(self.function))

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(self._ports[0])

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(self._ports[1])

    @property
    def operators(self) -> dict[str, int]:
        """Constants are not counted; the operations of a called function are, once for each call."""
        return dict(Counter(node.type for node in self._read.nodes))

    @property
    def inspection(self) -> PackageInspection:
        from mobileclip_deploy.targets.coreai.inspection import inspect_asset

        return inspect_asset(self.asset)

    @cached_property
    def _read(self) -> Graph:
        return graph_of(self.asset, self.function)

    @property
    def graph(self) -> Graph:
        """A file that holds other functions than the towers is refused."""
        expected, found = (FUNCTION,) if self.function is None else TOWERS, self.asset.functions
        if set(found) != set(expected):
            raise InvalidInput(f"{self.path} has the functions {', '.join(found)}; expected {', '.join(expected)}")
        return self._read

    def lint(self, device: str) -> tuple[LintReport, ...]:
        from mobileclip_deploy.targets.coreai.linting import lint_asset

        return lint_asset(self.asset, device, self.function)

    def runner(self) -> Runner:
        from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

        return CoreAIRunner(self.path, self.function, wide=True)

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """The program as written, with Apple's own float16 products."""
        from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

        yield lambda: CoreAIRunner(self.path, self.function)

    def plain_runner(self) -> Runner:
        from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

        return CoreAIRunner(self.path, self.function, plain=True)


def graph_of(asset: Asset, function: str | None = None) -> Graph:
    """A function as a graph. What it calls stands in its place, with what the callee is declared to be.

    Raises:
        InvalidInput: it says something in a way that no conversion does.
    """
    return _Reader(asset).graph(asset.function(function))


class _Reader:
    """`nodes`: what was read so far, in the order in which it is computed."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.nodes: list[Node] = []

    def graph(self, function: Any) -> Graph:
        arguments = list(function.regions[0].blocks[0].arguments)
        values: list[Input] = [Wire(None, place) for place in range(len(arguments))]
        results = self._body(function, values, {})
        inputs, outputs = (tuple(f"{name} {kind}" for name, kind in side) for side in named_ports(self.asset, function))
        return Graph(inputs, tuple(self.nodes), outputs, tuple(results), _declared(function))

    def _body(self, graph: Any, arguments: Sequence[Input], settings: Mapping[str, Any]) -> list[Input]:
        """Read the operations of a graph whose arguments are these: what it gives. `settings` come to all of them."""
        block = graph.regions[0].blocks[0]
        values: dict[Any, Input] = dict(zip(block.arguments, arguments, strict=True))
        for operation in operations(graph):
            taken = [values[operand] for operand in operation.operands]
            if operation.name == CONSTANT:
                name = f"constant of {tensor_type(operation.results[0])}"
                values[operation.results[0]] = Constant(self.asset.numbers(operation), name)
            elif operation.name == CALL:
                callee = self._callee(operation)
                called = self._body(callee, taken, {**settings, **_declared(callee)})
                values |= zip(operation.results, called, strict=True)
            elif operation.name == OUTPUT:
                return taken
            else:
                number = len(self.nodes)
                # Of operands, too: numpy has no types below a byte.
                given, made = (
                    ", ".join(str(tensor_type(value)) for value in values_of)
                    for values_of in (operation.operands, operation.results)
                )
                inputs = tuple((f"operand {place}", value) for place, value in enumerate(taken))
                named = {entry.name: str(entry.attr) for entry in operation.attributes}
                kind = operation.name.removeprefix("coreai.")
                named |= {**settings, "operands": given, "result": made}
                self.nodes.append(Node(kind, inputs, named, f"{number}"))
                values |= {result: Wire(number, place) for place, result in enumerate(operation.results)}
        raise InvalidInput(f"{self.asset.path}: a function without an output")

    def _callee(self, call: Any) -> Any:
        match = SYMBOL.search(str(call.attributes["callee"]))
        symbol = match.group(1) if match else str(call.attributes["callee"])
        if symbol not in self.asset.graphs or symbol in self.asset.functions:
            raise InvalidInput(f"{self.asset.path} calls {symbol}, which is no graph of it")
        return self.asset.graphs[symbol]


def named_ports(asset: Asset, function: Any) -> tuple[list[tuple[str, TensorType]], list[tuple[str, TensorType]]]:
    """The inputs and the outputs of a function: names and types.

    Raises:
        InvalidInput: one has no name.
    """
    block = function.regions[0].blocks[0]
    names = (PORT_NAME.findall(str(function.attributes[which])) for which in ("arg_attrs", "res_attrs"))
    values = block.arguments, list(operations(function))[-1].operands
    kinds = [[tensor_type(value) for value in side] for side in values]
    try:
        inputs, outputs = (list(zip(*side, strict=True)) for side in zip(names, kinds, strict=True))
    except ValueError:
        raise InvalidInput(f"{asset.path}: an input or output without a name") from None
    return inputs, outputs


def _declared(graph: Any) -> dict[str, str]:
    """What a graph is declared to be, beside its body: a device may have its own way to compute what is declared."""
    return {entry.name: str(entry.attr) for entry in graph.attributes if entry.name not in NO_SETTING}
