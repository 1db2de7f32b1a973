"""Settings that the graph of a file has and no answer may show, against what the checkpoint's own tower says: epsilons,
bounds, factors that undo each other, a GELU that is approximated, and the ids that are looked for.

An epsilon that is ten times as large moves little, a bound that no stored input reaches nothing, and so does scaling by
2^12 and back in float32, or a branch that one rare word takes; on a phone, or for another input, all of them do.
Neither a conversion nor a converter is needed: the tower is run once, and asked what it calls. Axes are not compared: a
wrong one moves every answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.foreign.torch import operations_told
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.weights import View

# Settings may stand in float16: 1e-5 is 1.0014e-5 there and 1e-6 is 1.0133e-6, in steps of 6e-8.
ROUNDED, HALF_STEP = 1e-2, 2.0**-25
# A factor and its inverse are float32 numbers.
INVERSE = 1e-6
NORMS, BOUNDS = ("layernorm", "batchnorm"), ("clip", "clamp", "minimum", "maximum", "min", "max")
EQUALS, APPROXIMATE = ("equal", "broadcastingequal", "eq"), ("approximate", "mode")
SAME_IDS = ("cast", "reshape", "squeeze", "unsqueeze", "expanddims", "identity")
FACTORS = ("mul", "multiply", "div")
# What LiteRT fuses behind an operation: RELU_N1_TO_1 and RELU6.
FUSED: Mapping[int, tuple[float, ...]] = {2: (-1.0, 1.0), 3: (6.0,)}
MOST = 64


@dataclass
class Settings:
    """The epsilon of every norm, what values are cut off at, the single numbers that values are multiplied by, whole
    numbers that ids are compared with, and whether a GELU is approximated."""

    epsilons: list[float] = field(default_factory=list)
    bounds: set[float] = field(default_factory=set)
    factors: list[float] = field(default_factory=list)
    compared: set[int] = field(default_factory=set)
    approximate: bool = False


@torch.no_grad()
def tower_settings(module: nn.Module, row: Tensor) -> Settings:
    """What a tower sets. `row`: one of its inputs, [1, ...]."""
    found = Settings()

    def called(name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        numbers = [float(one) for one in args if isinstance(one, int | float) and not isinstance(one, bool)]
        if "norm" in name and numbers:
            found.epsilons.append(numbers[-1])
        if name.startswith(("clamp", "hardtanh")):
            found.bounds.update(numbers)
            found.bounds.update(float(one) for one in named.values() if isinstance(one, int | float))
        if name.startswith("eq."):
            found.compared.update(int(one) for one in numbers)
        if name.startswith("gelu"):
            found.approximate |= named.get("approximate", "none") != "none"
        if name.startswith(("mul", "div")):
            found.factors += numbers
            found.factors += [float(one) for one in args if isinstance(one, Tensor) and one.numel() == 1]

    with operations_told(called):
        module(row)
    return found


def graph_settings(graph: Graph) -> Settings:
    """What a graph sets, of whatever format: operations are told by their names and by what stands beside them."""
    view, found = View(graph), Settings()
    for number in view.order:
        node = view.nodes[number]
        kind = _kind(node.type)
        if any(norm in kind for norm in NORMS):
            found.epsilons += _epsilons(node)
        if kind.endswith("rsqrt"):  # a norm that is written out: the sum that it takes holds the epsilon
            before = view.producer(node.inputs[0][1])
            if before is not None and _kind(before.type).endswith("add"):
                found.epsilons += _single(before)
        for text in (str(value) for name, value in node.settings.items() if name == "composite_decl"):
            found.epsilons += [float(one) for one in re.findall(r"\beps = ([-+.\dEe]+)", text)]
        if kind.removeprefix("xnn") in BOUNDS or kind.endswith(("minimum", "maximum")):
            found.bounds.update(_numbers(node))
        if kind in EQUALS and any(_is_input(view, value) for _, value in node.inputs):
            found.compared.update(_integers(node))
        if kind.endswith("gelu"):
            told = (str(value).lower() for name, value in node.settings.items() if name in APPROXIMATE)
            found.approximate |= any("tanh" in one or one == "true" for one in told)
        found.bounds.update(_ranged(node))
        if kind.endswith(FACTORS) and not kind.endswith("matmul") and not _unpacks(view, node):
            numbers = _single(node)
            found.factors += [1 / one for one in numbers if one] if kind.endswith("div") else numbers
    return found


def unlike_tower(graph: Settings, tower: Settings, pictures: bool = False) -> str | None:
    """What a graph sets that its tower does not, in words; None where there is nothing.

    Args:
        pictures: operations stand in front of the tower that make its pixels, with bounds and factors of their own.
    """
    ours, theirs = sorted(graph.epsilons), sorted(tower.epsilons)
    alike = len(ours) == len(theirs)
    for place, epsilon in enumerate(ours):
        if not any(_same(epsilon, own) for own in (theirs[place : place + 1] if alike else theirs)):
            return f"a norm has the epsilon {epsilon:.3g}, the checkpoint's have {_listed(theirs)}"
    if graph.approximate and not tower.approximate:
        return "a GELU is computed by tanh, which the checkpoint does not do"
    if pictures:
        return None
    others = sorted(graph.compared - tower.compared)
    if others:
        return f"ids are compared with {', '.join(map(str, others[:3]))}, which the checkpoint does not do"
    known = {0.0, *tower.bounds}  # 0: of a relu
    for bound in sorted(graph.bounds):
        if np.isfinite(bound) and not any(_same(bound, own) for own in known):
            return f"values are cut off at {bound:.6g}, which the checkpoint does not do"
    for factor in graph.factors:
        undone = any(abs(factor * other - 1) <= INVERSE for other in graph.factors) and abs(abs(factor) - 1) > ROUNDED
        if undone and not any(_same(factor, own) or _same(factor * own, 1) for own in tower.factors):
            return f"values are multiplied by {factor:.6g} and divided by it again, which the checkpoint does not do"
    return None


def _unpacks(view: View, node: Node) -> bool:
    """Whether an operation takes bytes of a stored table apart: ONNX counts two numbers per byte in floats, by 1/16 and
    16."""
    for _, value in node.inputs:
        before = view.producer(value)
        if before is None:
            continue
        if _kind(before.type) == "floor":
            return True
        looked = view.producer(before.inputs[0][1]) if _kind(before.type) == "cast" else None
        stored = looked.inputs[0][1] if looked is not None and _kind(looked.type) == "gather" else None
        if isinstance(stored, Constant) and stored.values.dtype.kind in "iu":
            return True
    return False


def _kind(kind: str) -> str:
    """The name of an operation in small letters, without its domain, overload and underscores."""
    name = re.sub(r"\.out$|\.\w*_out$|\.default$", "", kind)
    return re.split(r"[.:]", name)[-1].replace("_", "").lower()


def _epsilons(node: Node) -> list[float]:
    named = {name: value for name, value in node.settings.items() if "eps" in name.lower()}
    found = [float(value) for value in named.values() if isinstance(value, int | float)]
    found += [one for name, value in node.inputs if "eps" in name.lower() for one in _values(value)]
    # ExecuTorch's arguments have no names; a norm takes one number that is no integer.
    return found or list(_doubles(node))


def _single(node: Node) -> list[float]:
    """The floats that an operation takes one of for all values."""
    alone = [value for _, value in node.inputs if isinstance(value, Constant) and value.values.size == 1]
    return [one for value in alone for one in _values(value)] + list(_doubles(node))


def _numbers(node: Node) -> list[float]:
    return [one for _, value in node.inputs for one in _values(value)] + list(_doubles(node))


def _values(value: object) -> list[float]:
    if not isinstance(value, Constant) or value.values.dtype.kind != "f" or not value.values.size:
        return []
    values = value.values.reshape(-1)
    return [float(one) for one in (values if values.size <= MOST else (values.min(), values.max()))]


def _is_input(view: View, value: Input) -> bool:
    """Whether a value is what a graph is given, in whatever type and shape."""
    while (before := view.producer(value)) is not None and _kind(before.type) in SAME_IDS:
        value = before.inputs[0][1]
    return isinstance(value, Wire) and value.node is None


def _integers(node: Node) -> list[int]:
    """The whole numbers that an operation takes one of for all values."""
    alone = [value.values.reshape(-1) for _, value in node.inputs if isinstance(value, Constant)]
    found = [int(one[0]) for one in alone if one.size == 1 and one.dtype.kind in "iu"]
    told = (re.fullmatch(r"Int (-?\d+)", value) for value in node.settings.values() if isinstance(value, str))
    return found + [int(one[1]) for one in told if one is not None]


def _doubles(node: Node) -> Iterator[float]:
    for value in node.settings.values():
        if isinstance(value, str) and (told := re.fullmatch(r"Double ([-+.\deinfa]+)", value)):
            yield float(told[1])


def _ranged(node: Node) -> list[float]:
    """What stands in an operation beside its inputs: XNNPACK's range of results, LiteRT's fused activation."""
    told = re.fullmatch(r"([-+.\deinf]+) to ([-+.\deinf]+)", str(node.settings.get("range", "")))
    found = [] if told is None else [float(told[1]), float(told[2])]
    fused = node.settings.get("activation")
    return found + list(FUSED.get(fused, ()) if isinstance(fused, int) else ())


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= max(ROUNDED * max(abs(a), abs(b)), HALF_STEP if b else 0.0)


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in dict.fromkeys(values)) or "none"
