"""Comparison of a graph's settings with those of the checkpoint's own tower: epsilons, bounds, factors that cancel, an
approximated GELU, and ids that are searched for.

Answers on the stored inputs may hide these settings. A tenfold epsilon moves little, and a bound that no stored input
reaches moves nothing. The same holds for scaling by 2^12 and back in float32, or a branch for one rare word. On a
phone, or for another input, all of them matter. No conversion and no converter is needed: the tower runs once, and its
calls are recorded. Axes are not compared, since a wrong axis moves every answer.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.vendor_internals.torch import operations_told
from mobileclip_deploy.targets.weights import View

# Settings may be float16: 1e-5 is 1.0014e-5 there and 1e-6 is 1.0133e-6, in steps of 6e-8.
ROUNDED, HALF_STEP = 1e-2, 2.0**-25
# A factor and its inverse are float32 values.
INVERSE = 1e-6
NORMS, BOUNDS = ("layernorm", "batchnorm"), ("clip", "clamp", "minimum", "maximum", "min", "max")
EQUALS, APPROXIMATE = ("equal", "broadcastingequal", "eq"), ("approximate", "mode")
SAME_IDS = ("cast", "reshape", "squeeze", "unsqueeze", "expanddims", "identity")
FACTORS = ("mul", "multiply", "div")
# Activations that LiteRT fuses into the operation before them: RELU_N1_TO_1 and RELU6.
FUSED: Mapping[int, tuple[float, ...]] = {2: (-1.0, 1.0), 3: (6.0,)}
MOST = 64


@dataclass
class Settings:
    """Epsilons of all norms, bounds of clamps, scalar factors, integers that ids are compared with, and True if a GELU
    is approximated."""

    epsilons: list[float] = field(default_factory=list)
    bounds: set[float] = field(default_factory=set)
    factors: list[float] = field(default_factory=list)
    compared: set[int] = field(default_factory=set)
    approximate: bool = False


@torch.no_grad()
def tower_settings(module: nn.Module, row: Tensor) -> Settings:
    """Returns the settings of a tower. `row`: one of its inputs, [1, ...]."""
    settings = Settings()

    def called(name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        numbers = [float(value) for value in args if isinstance(value, int | float) and not isinstance(value, bool)]
        if "norm" in name and numbers:
            settings.epsilons.append(numbers[-1])
        if name.startswith(("clamp", "hardtanh")):
            settings.bounds.update(numbers)
            settings.bounds.update(float(value) for value in named.values() if isinstance(value, int | float))
        if name.startswith("eq."):
            settings.compared.update(int(value) for value in numbers)
        if name.startswith("gelu"):
            settings.approximate |= named.get("approximate", "none") != "none"
        if name.startswith(("mul", "div")):
            settings.factors += numbers
            settings.factors += [float(value) for value in args if isinstance(value, Tensor) and value.numel() == 1]

    with operations_told(called):
        module(row)
    return settings


def graph_settings(graph: Graph) -> Settings:
    """Returns the settings of a graph of any format. Operations are recognised by their names and constant inputs."""
    view, settings = View(graph), Settings()
    for index in view.order:
        node = view.nodes[index]
        kind = _kind(node.type)
        if any(norm in kind for norm in NORMS):
            settings.epsilons += _epsilons(node)
        if kind.endswith("rsqrt"):  # a norm in single operations: the sum before it contains the epsilon
            before = view.producer(node.inputs[0][1])
            if before is not None and _kind(before.type).endswith("add"):
                settings.epsilons += _single(before)
        for text in (str(value) for name, value in node.settings.items() if name == "composite_decl"):
            settings.epsilons += [float(item) for item in re.findall(r"\beps = ([-+.\dEe]+)", text)]
        if kind.removeprefix("xnn") in BOUNDS or kind.endswith(("minimum", "maximum")):
            settings.bounds.update(scalar for _, value in node.inputs for scalar in _values(value))
            settings.bounds.update(_doubles(node))
        if kind in EQUALS and any(_is_input(view, value) for _, value in node.inputs):
            settings.compared.update(_integers(node))
        if kind.endswith("gelu"):
            modes = (str(value).lower() for name, value in node.settings.items() if name in APPROXIMATE)
            settings.approximate |= any("tanh" in item or item == "true" for item in modes)
        settings.bounds.update(_ranged(node))
        if kind.endswith(FACTORS) and not kind.endswith("matmul") and not _unpacks(view, node):
            numbers = _single(node)
            settings.factors += [1 / item for item in numbers if item] if kind.endswith("div") else numbers
    return settings


def unlike_tower(graph: Settings, tower: Settings, pictures: bool = False) -> str | None:
    """Returns the first setting of a graph that its tower does not have, in words. None if there is none.

    Args:
        pictures: operations before the tower make its pixels, with bounds and factors of their own.
    """
    ours, theirs = sorted(graph.epsilons), sorted(tower.epsilons)
    alike = len(ours) == len(theirs)
    for index, epsilon in enumerate(ours):
        if not any(_same(epsilon, expected) for expected in (theirs[index : index + 1] if alike else theirs)):
            listed = ", ".join(f"{value:.3g}" for value in dict.fromkeys(theirs)) or "none"
            return f"a norm has the epsilon {epsilon:.3g}, the checkpoint has {listed}"
    if graph.approximate and not tower.approximate:
        return "a GELU is computed by tanh, unlike the checkpoint's"
    if pictures:
        return None
    others = sorted(graph.compared - tower.compared)
    if others:
        return f"ids are compared with {', '.join(map(str, others[:3]))}, unlike in the checkpoint"
    allowed = {0.0, *tower.bounds}  # 0: of a relu
    for bound in sorted(graph.bounds):
        if np.isfinite(bound) and not any(_same(bound, expected) for expected in allowed):
            return f"values are clipped at {bound:.6g}, unlike in the checkpoint"
    for factor in graph.factors:
        undone = any(abs(factor * other - 1) <= INVERSE for other in graph.factors) and abs(abs(factor) - 1) > ROUNDED
        if undone and not any(_same(factor, expected) or _same(factor * expected, 1) for expected in tower.factors):
            return f"values are multiplied by {factor:.6g} and divided by it again, unlike in the checkpoint"
    return None


def _unpacks(view: View, node: Node) -> bool:
    """Returns whether an operation unpacks bytes of a stored table. ONNX splits a byte into two values in floats, by
    1/16 and 16."""
    for _, value in node.inputs:
        before = view.producer(value)
        if before is None:
            continue
        if _kind(before.type) == "floor":
            return True
        table = view.producer(before.inputs[0][1]) if _kind(before.type) == "cast" else None
        stored = table.inputs[0][1] if table is not None and _kind(table.type) == "gather" else None
        if isinstance(stored, Constant) and stored.values.dtype.kind in "iu":
            return True
    return False


def _kind(kind: str) -> str:
    """Returns the name of an operation in lower case, without its domain, overload and underscores."""
    name = re.sub(r"\.out$|\.\w*_out$|\.default$", "", kind)
    return re.split(r"[.:]", name)[-1].replace("_", "").lower()


def _epsilons(node: Node) -> list[float]:
    named = {name: value for name, value in node.settings.items() if "eps" in name.lower()}
    epsilons = [float(value) for value in named.values() if isinstance(value, int | float)]
    epsilons += [epsilon for name, value in node.inputs if "eps" in name.lower() for epsilon in _values(value)]
    # ExecuTorch's arguments have no names; a norm has one argument that is a float.
    return epsilons or list(_doubles(node))


def _single(node: Node) -> list[float]:
    alone = [value for _, value in node.inputs if isinstance(value, Constant) and value.values.size == 1]
    return [scalar for value in alone for scalar in _values(value)] + list(_doubles(node))


def _values(value: object) -> list[float]:
    if not isinstance(value, Constant) or value.values.dtype.kind != "f" or not value.values.size:
        return []
    values = value.values.reshape(-1)
    return [float(scalar) for scalar in (values if values.size <= MOST else (values.min(), values.max()))]


def _is_input(view: View, value: Input) -> bool:
    """Returns whether a value is an input of the graph, in any dtype and shape."""
    while (before := view.producer(value)) is not None and _kind(before.type) in SAME_IDS:
        value = before.inputs[0][1]
    return isinstance(value, Wire) and value.node is None


def _integers(node: Node) -> list[int]:
    alone = [value.values.reshape(-1) for _, value in node.inputs if isinstance(value, Constant)]
    integers = [int(item[0]) for item in alone if item.size == 1 and item.dtype.kind in "iu"]
    texts = (re.fullmatch(r"Int (-?\d+)", value) for value in node.settings.values() if isinstance(value, str))
    return integers + [int(item[1]) for item in texts if item is not None]


def _doubles(node: Node) -> Iterator[float]:
    for value in node.settings.values():
        if isinstance(value, str) and (match := re.fullmatch(r"Double ([-+.\deinfa]+)", value)):
            yield float(match[1])


def _ranged(node: Node) -> list[float]:
    """Returns the range of an operation's results: XNNPACK's range, LiteRT's fused activation."""
    match = re.fullmatch(r"([-+.\deinf]+) to ([-+.\deinf]+)", str(node.settings.get("range", "")))
    bounds = [] if match is None else [float(match[1]), float(match[2])]
    fused = node.settings.get("activation")
    return bounds + list(FUSED.get(fused, ()) if isinstance(fused, int) else ())


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= max(ROUNDED * max(abs(a), abs(b)), HALF_STEP if b else 0.0)
