"""What of a Core AI program is ready for the Neural Engine: Core ML's rules where they are the same, and Apple's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.coreai.asset import Asset
from mobileclip_deploy.targets.coreai.weights import RESTORED
from mobileclip_deploy.targets.graph import Constant, Graph, Node, Wire
from mobileclip_deploy.targets.mil.description import Argument, Operation
from mobileclip_deploy.targets.mil.lint.devices import Device, find_device
from mobileclip_deploy.targets.mil.lint.report import Finding, LintedOperation, LintReport, RuleText, findings_of
from mobileclip_deploy.targets.mil.lint.rule import DeviceOperation, Rules, Source
from mobileclip_deploy.targets.mil.lint.rules import RULES
from mobileclip_deploy.targets.mil.lint.sources import issue

APPLE = Source(
    "Apple, rules for the Neural Engine (coreai-models, skills/model-authoring/references/neural_engine_rules.md)",
    "https://github.com/apple/coreai-models/blob/main/skills/model-authoring/references/neural_engine_rules.md",
)
# Core ML's rules that say of a chip what they say of it, whatever brings the program there.
SHARED = ("gather", "float32", "integer", "rank-above-5", "extent", "integer-cast", "rank-5")
PRODUCT = "decomposable.broadcasting_batch_matmul"
COMPOSITE = "composite_decl"
LINE = 64
LARGEST = 2 * 2**30
SIZE = RuleText(name="size", level="risk", text="Below 2 GB", sources={APPLE.title: APPLE.url})


@dataclass(frozen=True)
class Op:
    """An operation in its graph."""

    graph: Graph
    number: int

    @property
    def node(self) -> Node:
        return self.graph.nodes[self.number]

    @property
    def results(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Type and shape of each result."""
        return _kinds(self.node.settings["result"])

    def made_by(self, place: int) -> Node | None:
        """The operation whose result is taken in a place; None for inputs and constants."""
        return self.graph.producer(self.node.inputs[place][1])

    def constant(self, place: int) -> npt.NDArray[Any] | None:
        value = self.node.inputs[place][1] if place < len(self.node.inputs) else None
        return value.values if isinstance(value, Constant) else None


OWN_RULES = Rules[Op]()
"""Apple's rules in our words, and reports of iOS 27.0. Their rank and types are Core ML's rules."""


@OWN_RULES.add("infinity", "risk", "-inf is wrong in its softmax; -40000 stands for it", APPLE)
def _infinite(op: Op) -> str | None:
    values = [op.constant(place) for place in range(len(op.node.inputs))]
    floats = [value for value in values if value is not None and value.dtype.kind == "f"]
    return "a constant of -inf" if any(np.isneginf(value).any() for value in floats) else None


@OWN_RULES.add(
    "argmax-default",
    "risk",
    "argmax answers wrongly under the default specialization of iOS 27.0",
    issue("coreai-torch", 116, "argmax"),
)
def _argmax(op: Op) -> str | None:
    return op.node.type if op.node.type in ("argmax", "argmin") else None


@OWN_RULES.add(
    "half-head",
    "risk",
    "A head in float16 gave 0.0 on iOS 27.0: check the golden answers on a device",
    issue("coreai-torch", 115, "an fp16 head returns 0.0"),
)
def _half_head(op: Op) -> str | None:
    """A product in float16 that the output is cast from."""
    made = op.made_by(0) if op.node.type == "cast" else None
    output = any(isinstance(result, Wire) and result.node == op.number for result in op.graph.results)
    if made is None or not output:
        return None
    return "behind a product in float16" if made.type == PRODUCT and "float16" in made.settings["result"] else None


@OWN_RULES.add(
    "byte-blocks",
    "risk",
    "8-bit integers with a scale a block answer wrongly",
    issue("coreai-models", 279, "8-bit integers a block"),
)
def _byte_blocks(op: Op) -> str | None:
    scale, data = (op.constant(1), op.constant(0)) if op.node.type == "blockwise_shift_scale" else (None, None)
    if scale is None or data is None or _bits(op.node) != 8:
        return None
    blocks = any(1 < own < size for own, size in zip(scale.shape, data.shape, strict=True))
    return f"{list(scale.shape)} scales of {list(data.shape)} numbers" if blocks else None


@OWN_RULES.add("stride", "risk", "Strides are products of 2 and 3", APPLE)
def _stride(op: Op) -> str | None:
    strides = op.constant(2) if op.node.type == "conv2d" else None
    odd = [] if strides is None else [stride for stride in strides.tolist() if not _of_two_and_three(stride)]
    return f"stride {odd[0]}" if odd else None


@OWN_RULES.add("table-stride", "risk", "Where a weight is in tables, strides are 1 or 2", APPLE)
def _table_stride(op: Op) -> str | None:
    if op.node.type != "conv2d":
        return None
    made, strides = op.made_by(1), op.constant(2)
    if made is None or made.type != "lut_to_dense" or strides is None:
        return None
    return f"stride {int(strides.max())}" if strides.max() > 2 else None


@OWN_RULES.add("single-last-axis", "advice", "A last axis of 1 takes the room of 32 numbers of float16 each", APPLE)
def _single_last(op: Op) -> str | None:
    shape = op.results[0][1]
    wide = len(shape) > 1 and shape[-1] == 1 and math.prod(shape) > LINE
    return f"{list(shape)}" if wide and not _fixed(op) else None


@OWN_RULES.add("unaligned", "advice", "A last axis is best a multiple of 64 bytes", APPLE)
def _unaligned(op: Op) -> str | None:
    dtype, shape = op.results[0]
    size = (shape[-1] if shape else 1) * (2 if dtype == "float16" else 4)
    wide = dtype.startswith("float") and len(shape) > 1 and shape[-1] > 1 and size % LINE
    return f"{list(shape)}: {size} bytes" if wide and not _fixed(op) else None


@OWN_RULES.add("linear", "advice", "A 1 x 1 convolution is better than a linear layer", APPLE)
def _linear(op: Op) -> str | None:
    if op.node.type != PRODUCT:
        return None
    made = op.made_by(1)
    if op.constant(1) is None and (made is None or made.type not in (*RESTORED, "transpose")):
        return None
    if made is not None and made.type == "transpose" and isinstance(made.inputs[0][1], Wire):
        behind = op.graph.producer(made.inputs[0][1])
        if behind is None or behind.type not in RESTORED:
            return None  # of attention: both are computed
    return f"{list(op.results[0][1])}"


@OWN_RULES.add("softmax-axis", "advice", "softmax is best taken over the channels", APPLE)
def _softmax_axis(op: Op) -> str | None:
    axis = op.constant(1) if op.node.type == "softmax" else None
    shape = op.results[0][1]
    return f"axis {int(axis)} of {list(shape)}" if axis is not None and int(axis) % len(shape) != 1 else None


def _fixed(op: Op) -> bool:
    """Whether it is known before anything runs."""
    return all(isinstance(value, Constant) for _, value in op.node.inputs)


def _of_two_and_three(number: int) -> bool:
    for prime in (2, 3):
        while number % prime == 0:
            number //= prime
    return number == 1


def lint_asset(
    asset: Asset, device: str, graph_of: Callable[[str], Graph], function: str | None = None
) -> tuple[LintReport, ...]:
    """Apply the shared rules and Core AI's own to every operation of a function, or of each: see `Artifact.lint`."""
    chosen = find_device(device)
    names = [function] if function is not None else list(asset.functions)
    return tuple(_lint(asset.path, name, graph_of(name), chosen) for name in names)


def _lint(path: Path, function: str, graph: Graph, device: Device) -> LintReport:
    shared = [rule for rule in RULES if rule.name in SHARED]
    half = any("float16" in node.settings["result"] for node in graph.nodes)
    counted: set[int] = set()
    operations = []
    weights: list[Finding] = []
    for number, node in enumerate(graph.nodes):
        op = Op(graph, number)
        if node.type in RESTORED:  # a weight, not an operation
            weights += findings_of(OWN_RULES, op)
            continue
        size = _weight_bytes(graph, node, counted)
        on_device = DeviceOperation(_described(op, size), device)
        # Between float16 the body of a declared function (a layer norm) may say float32: a device has its own way.
        own_way = half and COMPOSITE in node.settings
        asked = [rule for rule in shared if not (own_way and rule.name == "float32")]
        findings = findings_of(asked, on_device) + findings_of(OWN_RULES, op)
        operations.append(LintedOperation.of(node.name, node.type, size, findings))
    whole = sum(operation.weight_bytes for operation in operations)
    if whole > LARGEST:
        weights.append(Finding(rule=SIZE.name, level=SIZE.level, detail=f"{whole / 2**30:.2f} GiB of weights"))
    rules = [*map(RuleText.of, shared), *map(RuleText.of, OWN_RULES), SIZE]
    return LintReport.of(path.name, (function, device.name), operations, rules, weights)


def _described(op: Op, weight_bytes: int) -> Operation:
    """An operation as Core ML's rules look at one."""
    inputs, kinds = {}, _kinds(op.node.settings["operands"])
    for place, ((_, value), (dtype, shape)) in enumerate(zip(op.node.inputs, kinds, strict=True)):
        # Shapes, axes and paddings are settings in Core ML, no tensors that are computed.
        name = "x" if place == 0 else f"operand {place}"
        inputs[name] = (Argument(None, dtype, shape, isinstance(value, Constant)),)
    outputs = tuple(Argument(None, dtype, shape, False) for dtype, shape in op.results)
    return Operation(op.node.type, op.node.name, inputs, outputs, weight_bytes, {})


def _kinds(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """`float16 [1, 96, 16], int32 []` -> types and shapes."""
    told = (one.partition(" [")[::2] for one in text.split("], ") if one)
    return tuple((dtype, tuple(int(size) for size in sizes.rstrip("]").split(", ") if size)) for dtype, sizes in told)


def _weight_bytes(graph: Graph, node: Node, counted: set[int]) -> int:
    """The bytes of the constants that an operation takes, those of a restored weight included, each once."""
    size = 0
    for _, value in node.inputs:
        if isinstance(value, Constant) and id(value.values) not in counted:
            counted.add(id(value.values))
            size += value.values.nbytes
        elif isinstance(value, Wire) and value.node is not None and value.node not in counted:
            maker = graph.nodes[value.node]
            if maker.type in RESTORED:
                counted.add(value.node)
                size += _stored_bytes(maker)
    return size


def _stored_bytes(node: Node) -> int:
    numbers, *others = (value.values for _, value in node.inputs if isinstance(value, Constant))
    return math.ceil(numbers.size * _bits(node) / 8) + sum(other.nbytes for other in others)


def _bits(node: Node) -> int:
    """Bits of one stored number of a restored weight."""
    (dtype, _), *_ = _kinds(node.settings["operands"])
    return int("".join(filter(str.isdigit, dtype)))
