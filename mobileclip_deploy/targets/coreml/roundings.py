"""What an ML program rounds by `quantize`, followed in our evaluator, in float32 between the roundings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.coreml.runner import feeds
from mobileclip_deploy.targets.rounded import Floats, Flow, RoundedFile, RoundedValue

if TYPE_CHECKING:
    from mobileclip_deploy.mil import Program
    from mobileclip_deploy.mil.graph import Graph, Node

__all__ = ["RoundedProgram"]

SUMS = ("add", "sub")
ROUNDINGS = ("quantize", "dequantize")
# How much two steps in float16 may differ that are the same: a rounding each, and one of their quotient.
HALF = 2**-9
# They change no number.
SHAPES = ("reshape", "transpose", "squeeze", "expand_dims", "cast", "identity")


class RoundedProgram(RoundedFile):
    """A package with `quantize` operations.

    Raises:
        InvalidInput: it is damaged, or rounds by what does not stand in it, or by a scale a channel.
    """

    def __init__(self, path: Path, function: str | None = None) -> None:
        from mobileclip_deploy.mil import load

        self._rounded = load(path, function)
        self._plain = load(path, function, rounds_activations=False)
        try:
            self.values = tuple(_rounded_values(self._rounded.graph))
        except (KeyError, ValueError) as error:
            raise InvalidInput(f"{path}: its roundings cannot be read: {error}") from error
        self.bias_steps: Mapping[str, Floats] = {}
        self.engine = "mobileclip_deploy.mil (float32 arithmetic; not Core ML)"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        names = {name for value in self.values for name in (value.source, *value.takers)}
        return {name: values.astype(np.float32) for name, values in _computed(self._plain, row, names).items()}

    def rounded(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        result = self._rounded.outputs[-1].name
        found = _computed(self._rounded, row, {result, *(value.name for value in self.values)})
        return found[result].astype(np.float32), found


def _computed(program: Program, row: npt.NDArray[np.generic], names: set[str]) -> dict[str, npt.NDArray[Any]]:
    (fed,) = feeds(program, row)
    return {name: np.asarray(value) for step in program.trace(fed, names=names) for name, value in step.values.items()}


def _rounded_values(graph: Graph) -> Iterator[RoundedValue]:
    """Raises KeyError or ValueError for what no export writes: a scale that is computed, or one a channel; what is
    restored by another step than it was rounded by."""
    flow = Flow(frozenset(graph.outputs))
    producers = {name: node for node in graph.nodes for name, _ in node.outputs}
    for node in graph.nodes:
        if node.kind in SHAPES:
            flow.reshape(_taken(node)[0], node.outputs[0][0])
        elif node.kind not in ROUNDINGS:
            for name, _ in node.outputs:
                flow.compute(_taken(node), name)
    steps: dict[str, float] = {}  # by the integers, in the units of the value as the network has it
    units: dict[str, float] = {}  # by the sum, how much of it there is in the file
    for node in graph.nodes:
        if node.kind == "quantize":
            steps[node.outputs[0][0]] = _number(node, "scale") / units.get(_source(node), 1.0)
        elif node.kind in SUMS:
            units[node.outputs[0][0]] = _units([producers.get(name) for name in _taken(node)], steps)
    for back in graph.nodes:
        if back.kind != "dequantize":
            continue
        name, restored = _source(back), back.outputs[0][0]
        node, backs = producers[name], [other for other in graph.nodes if name in _taken(other)]
        alone, taking = len(backs) == 1, flow.takers.get(restored, [""])[0]
        step, zero = _number(back, "scale") / units.get(taking, 1.0), int(_number(node, "zero_point"))
        if abs(step / steps[name] - 1) > HALF or int(_number(back, "zero_point")) != zero:
            raise ValueError(f"{_source(node)} is not restored by what it was rounded by")
        integers = np.iinfo(node.outputs[0][1].dtype.name)
        takers = flow.taking(_source(node), restored, alone)
        yield RoundedValue(name, _source(node), takers, steps[name], zero, int(integers.min), int(integers.max), step)


def _units(summands: list[Node | None], steps: Mapping[str, float]) -> float:
    """coremltools has two integers added in units of the first's steps: what is restored of it are the integers, and
    the sum is rounded by so many of its steps.

    Raises ValueError where the units of the summands differ.
    """
    found = [
        _number(node, "scale") / steps[_source(node)]
        for node in summands
        if node is not None and node.kind == "dequantize"
    ]
    if len(found) < len(summands):
        return 1.0
    if max(found) > min(found) * (1 + HALF):
        raise ValueError(f"the summands {' and '.join(_source(node) for node in summands if node)} are of other units")
    return found[0]


def _taken(node: Node) -> list[str]:
    return [name for bound in node.operands.values() for name, operand in bound if name is not None]


def _source(node: Node) -> str:
    """What is rounded, or restored."""
    return str(node.operands["input"][0][0])


def _number(node: Node, parameter: str) -> float:
    """One that stands in the file; no zero point is 0."""
    from mobileclip_deploy.mil.graph import Reference

    if parameter not in node.operands and parameter == "zero_point":
        return 0.0
    operand = node.operands[parameter][0][1]
    if isinstance(operand, Reference):
        raise ValueError(f"the {parameter} of {node} is computed")
    return float(operand.array().item())
