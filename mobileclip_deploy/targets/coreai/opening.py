"""An opened .aimodel: its declarations and contents, and its program as a graph, independent of names and order."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.coreai.asset import (
    CONSTANT,
    FUNCTION,
    IMAGE,
    OWN,
    Asset,
    TensorType,
    operations,
    tensor_type,
)
from mobileclip_deploy.targets.coreai.runner import CoreAIRunner
from mobileclip_deploy.targets.coreai.weights import RESTORED, TABLE
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.inspection import FunctionInspection, PackageInspection, PortInspection, StoredTensor
from mobileclip_deploy.targets.mil.lint.report import LintReport
from mobileclip_deploy.targets.values import Runner, TensorInfo

CALL, OUTPUT = "coreai.invoke", "coreai.output"
SYMBOL = re.compile(r"@([\w.$-]+)")
# Attributes of a function that are not settings: its name may be any, its types are those of its operations.
NO_SETTING = ("sym_name", "function_type", "arg_attrs", "res_attrs")


class CoreAIArtifact(Artifact):
    """An .aimodel, or one function of it."""

    has_functions = True
    weight_table = TABLE

    @cached_property
    def asset(self) -> Asset:
        """The program; callers must not change it."""
        return Asset(self.path)

    @cached_property
    def _ports(self) -> tuple[list[TensorInfo], list[TensorInfo]]:
        return ports_of(self.asset, self.asset.function(self.function))

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(self._ports[0])

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(self._ports[1])

    @property
    def operators(self) -> dict[str, int]:
        """Operations by type. Constants do not count; the operations of a called function count once per call."""
        return dict(Counter(node.type for node in self._read.nodes))

    @property
    def inspection(self) -> PackageInspection:
        """Inspection of the asset. Weights' bytes are as stored; those that functions share count in each. A weight's
        name is the one in the function's text, since there are no others."""
        asset = self.asset
        return PackageInspection(
            kind="coreai artifact",
            title="Core AI asset",
            bytes=artifact_bytes(asset.path),
            specification_version=str(asset.metadata["assetVersion"]),
            deployment_target="iOS27",
            metadata=_flat(asset.metadata),
            functions={name: _function(asset, name) for name in asset.functions},
        )

    @cached_property
    def _read(self) -> Graph:
        return graph_of(self.asset, self.function)

    @property
    def graph(self) -> Graph:
        """The graph; a file with other functions than the towers is refused."""
        expected, functions = (FUNCTION,) if self.function is None else TOWERS, self.asset.functions
        if set(functions) != set(expected):
            raise InvalidInput(f"{self.path} has the functions {', '.join(functions)}; expected {', '.join(expected)}")
        return self._read

    def lint(self, device: str) -> tuple[LintReport, ...]:
        from mobileclip_deploy.targets.coreai.linting import lint_asset

        return lint_asset(self.asset, device, partial(graph_of, self.asset), self.function)

    def runner(self) -> Runner:
        return CoreAIRunner(self.path, self.function, wide=True)

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """Yields the program as written, with Apple's own float16 products."""
        yield lambda: CoreAIRunner(self.path, self.function)

    def plain_runner(self) -> Runner:
        return CoreAIRunner(self.path, self.function, plain=True)


def graph_of(asset: Asset, function: str | None = None) -> Graph:
    """Returns a function as a graph. Called functions are inlined, with the attributes of the callee's declaration."""
    return _Reader(asset).graph(asset.function(function))


class _Reader:
    """Builder of a graph. `nodes`: the nodes so far, in the order of computation."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.nodes: list[Node] = []

    def graph(self, function: Any) -> Graph:
        arguments = list(function.regions[0].blocks[0].arguments)
        values: list[Input] = [Wire(None, index) for index in range(len(arguments))]
        results = self._body(function, values, {})
        inputs, outputs = (tuple(f"{name} {kind}" for name, kind in side) for side in self.asset.named_ports(function))
        return Graph(inputs, tuple(self.nodes), outputs, tuple(results), _declared(function))

    def _body(self, graph: Any, arguments: Sequence[Input], settings: Mapping[str, Any]) -> list[Input]:
        """Reads the operations of a graph with these arguments and returns its outputs. `settings` are added to all
        nodes."""
        block = graph.regions[0].blocks[0]
        values: dict[Any, Input] = dict(zip(block.arguments, arguments, strict=True))
        for operation in operations(graph):
            operands = [values[operand] for operand in operation.operands]
            if operation.name == CONSTANT:
                name = f"constant of {tensor_type(operation.results[0])}"
                values[operation.results[0]] = Constant(self.asset.numbers(operation), name)
            elif operation.name == CALL:
                reference = str(operation.attributes["callee"])
                symbol = match.group(1) if (match := SYMBOL.search(reference)) else reference
                if symbol not in self.asset.graphs or symbol in self.asset.functions:
                    raise InvalidInput(f"{self.asset.path} calls {symbol}, which is not one of its graphs")
                callee = self.asset.graphs[symbol]
                called = self._body(callee, operands, {**settings, **_declared(callee)})
                values |= zip(operation.results, called, strict=True)
            elif operation.name == OUTPUT:
                return operands
            else:
                index = len(self.nodes)
                # Operands too: numpy has no types below a byte.
                operand_types, result_types = (
                    ", ".join(str(tensor_type(value)) for value in values_of)
                    for values_of in (operation.operands, operation.results)
                )
                inputs = tuple((f"operand {position}", value) for position, value in enumerate(operands))
                named = {entry.name: str(entry.attr) for entry in operation.attributes}
                kind = operation.name.removeprefix("coreai.")
                named |= {**settings, "operands": operand_types, "result": result_types}
                self.nodes.append(Node(kind, inputs, named, f"{index}"))
                values |= {result: Wire(index, position) for position, result in enumerate(operation.results)}
        raise InvalidInput(f"{self.asset.path}: a function without an output")


def _declared(graph: Any) -> dict[str, str]:
    """Returns the attributes of a graph's declaration: a device may have its own way to compute a declared function."""
    return {entry.name: str(entry.attr) for entry in graph.attributes if entry.name not in NO_SETTING}


def _flat(metadata: dict[str, Any]) -> dict[str, str]:
    """Merges the writer's own metadata into the rest."""
    custom = metadata.get(OWN, {})
    standard = {name: value for name, value in metadata.items() if name != OWN}
    return {
        name: str(value)
        for name, value in {**standard, **(custom if isinstance(custom, dict) else {OWN: custom})}.items()
    }


def _function(asset: Asset, name: str) -> FunctionInspection:
    function = asset.functions[name]
    nodes = graph_of(asset, name).nodes
    inputs, outputs = ports_of(asset, function)
    weights = [weight for operation in operations(function) if (weight := _weight(operation)) is not None]
    return FunctionInspection.of(
        (map(_port, inputs), map(_port, outputs)),
        (node.type for node in nodes),
        (node.settings["result"].split(" ")[0] for node in nodes),
        [(weight.kind, weight) for weight in weights],
    )


def _weight(operation: Any) -> StoredTensor | None:
    """Returns a weight: a constant of floats, or a value restored from other constants, which count with it. None for
    all others."""
    kind = operation.name.removeprefix("coreai.")
    if kind in RESTORED:
        parts = [tensor_type(operand) for operand in operation.operands]
    elif kind == "constant":
        kind, parts = "const", [tensor_type(operation.results[0])]
        users = [use.owner.name.removeprefix("coreai.") for use in operation.results[0].uses]
        if not parts[0].dtype.startswith("float") or any(user in RESTORED for user in users):
            return None
    else:
        return None
    result, dtype = operation.results[0], parts[0].dtype
    size = sum(-(-math.prod(part.shape) * part.bits // 8) for part in parts)
    return StoredTensor.of(str(result.get_name()), tensor_type(result).shape, dtype, f"{kind} {dtype}", size)


def ports_of(asset: Asset, function: Any) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Returns the inputs and the outputs of a function."""
    inputs, outputs = ([_info(name, kind) for name, kind in side] for side in asset.named_ports(function))
    return inputs, outputs


def _info(name: str, kind: TensorType) -> TensorInfo:
    if kind.dtype.startswith(IMAGE):
        return TensorInfo(name, "uint8", (1, 3, *kind.shape), (0.0, 255.0), "RGB")
    return TensorInfo(name, kind.dtype, kind.shape)


def _port(port: TensorInfo) -> PortInspection:
    return PortInspection(name=port.name, kind="image" if port.colour else "tensor", dtype=port.dtype, shape=port.shape)
