"""A TorchScript file as a neutral graph: what it computes, whatever its values, classes and entries are called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets import TensorInfo
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire

__all__ = ["read_graph"]


@dataclass(frozen=True)
class _Plain:
    """Value that is not a tensor: a number, a text, None, or a list of these."""

    value: Any


def read_graph(module: Any, ports: tuple[TensorInfo, TensorInfo], path: Path) -> Graph:
    """Returns the graph of a file, with the graphs of its modules in it.

    Raises:
        InvalidInput: it has what no trace gives, such as a branch.
    """
    source, result = ports
    own, *inputs = module.inlined_graph.inputs()
    values: dict[str, Any] = {own.debugName(): module}
    values |= {value.debugName(): Wire(None, number) for number, value in enumerate(inputs)}
    nodes: list[Node] = []
    for node in module.inlined_graph.nodes():
        taken = [values[value.debugName()] for value in node.inputs()]
        kind, outputs = node.kind(), [value.debugName() for value in node.outputs()]
        if list(node.blocks()):
            raise InvalidInput(f"{path}: {kind} {', '.join(outputs)!r} decides what is computed; no trace gives that")
        if kind == "prim::GetAttr":
            values[outputs[0]] = _held(getattr(taken[0], node.s("name")), node.s("name"))
        elif kind == "prim::Constant":
            values[outputs[0]] = _held(next(node.outputs()).toIValue(), outputs[0])
        elif kind == "prim::ListConstruct" and all(isinstance(value, _Plain) for value in taken):
            values[outputs[0]] = _Plain([value.value for value in taken])
        else:
            values |= {name: Wire(len(nodes), number) for number, name in enumerate(outputs)}
            nodes.append(_node(kind, taken, outputs))
    results = tuple(_input(values[value.debugName()], path) for value in module.inlined_graph.outputs())
    return Graph((str(source),), tuple(nodes), (str(result),), results)


def _held(value: Any, name: str) -> Any:
    """Returns a module, or the value in the file."""
    if isinstance(value, torch.Tensor):
        return Constant(value.detach().numpy(), name)
    return value if isinstance(value, torch.nn.Module) else _Plain(value)


def _node(kind: str, taken: list[Any], outputs: list[str]) -> Node:
    inputs = tuple((f"input {number}", value) for number, value in enumerate(taken) if not isinstance(value, _Plain))
    plain = {f"input {number}": repr(value.value) for number, value in enumerate(taken) if isinstance(value, _Plain)}
    return Node(kind, inputs, plain, outputs[0] if outputs else "")


def _input(value: Any, path: Path) -> Input:
    if isinstance(value, (Wire, Constant)):
        return value
    raise InvalidInput(f"{path}: its output is no tensor")
