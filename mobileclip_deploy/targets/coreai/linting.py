"""Lint of a Core AI program for the Neural Engine: Core ML's rules that apply here too, and Apple's."""

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
from mobileclip_deploy.targets.mil.lint.rule import DeviceOperation, Rules, RuleSource
from mobileclip_deploy.targets.mil.lint.rules import RULES
from mobileclip_deploy.targets.mil.lint.sources import issue

APPLE = RuleSource(
    "Apple, rules for the Neural Engine (coreai-models, skills/model-authoring/references/neural_engine_rules.md)",
    "https://github.com/apple/coreai-models/blob/main/skills/model-authoring/references/neural_engine_rules.md",
)
# Core ML's rules about a chip that hold for every format of a program.
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
        """Returns the operation that computes an operand. None for inputs and constants."""
        return self.graph.producer(self.node.inputs[place][1])

    def constant(self, place: int) -> npt.NDArray[Any] | None:
        value = self.node.inputs[place][1] if place < len(self.node.inputs) else None
        return value.values if isinstance(value, Constant) else None


OWN_RULES = Rules[Op]()
"""Apple's rules in our words, and reports of iOS 27.0. Core ML's rules already cover rank and types."""


@OWN_RULES.add("infinity", "risk", "-inf is wrong in its softmax; use -40000", APPLE)
def _infinite(op: Op) -> str | None:
    values = [op.constant(index) for index in range(len(op.node.inputs))]
    floats = [value for value in values if value is not None and value.dtype.kind == "f"]
    return "a constant of -inf" if any(np.isneginf(value).any() for value in floats) else None


@OWN_RULES.add(
    "argmax-default",
    "risk",
    "argmax gives wrong results under the default specialization of iOS 27.0",
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
    """Returns a message for a float16 product whose cast is the output."""
    producer = op.made_by(0) if op.node.type == "cast" else None
    output = any(isinstance(result, Wire) and result.node == op.number for result in op.graph.results)
    if producer is None or not output:
        return None
    return (
        "after a product in float16" if producer.type == PRODUCT and "float16" in producer.settings["result"] else None
    )


@OWN_RULES.add(
    "byte-blocks",
    "risk",
    "8-bit integers with a scale per block give wrong results",
    issue("coreai-models", 279, "8-bit integers in blocks"),
)
def _byte_blocks(op: Op) -> str | None:
    scale, data = (op.constant(1), op.constant(0)) if op.node.type == "blockwise_shift_scale" else (None, None)
    if scale is None or data is None or _bits(op.node) != 8:
        return None
    blocks = any(1 < count < size for count, size in zip(scale.shape, data.shape, strict=True))
    return f"{list(scale.shape)} scales for {list(data.shape)} elements" if blocks else None


@OWN_RULES.add("stride", "risk", "Strides are products of 2 and 3", APPLE)
def _stride(op: Op) -> str | None:
    strides = op.constant(2) if op.node.type == "conv2d" else None
    odd = [] if strides is None else [stride for stride in strides.tolist() if not _of_two_and_three(stride)]
    return f"stride {odd[0]}" if odd else None


@OWN_RULES.add("table-stride", "risk", "With palettized weights, strides are 1 or 2", APPLE)
def _table_stride(op: Op) -> str | None:
    if op.node.type != "conv2d":
        return None
    producer, strides = op.made_by(1), op.constant(2)
    if producer is None or producer.type != "lut_to_dense" or strides is None:
        return None
    return f"stride {int(strides.max())}" if strides.max() > 2 else None


@OWN_RULES.add("single-last-axis", "advice", "A last axis of 1 takes the space of 32 float16 elements", APPLE)
def _single_last(op: Op) -> str | None:
    shape = op.results[0][1]
    wide = len(shape) > 1 and shape[-1] == 1 and math.prod(shape) > LINE
    return f"{list(shape)}" if wide and not _fixed(op) else None


@OWN_RULES.add("unaligned", "advice", "A last axis should be a multiple of 64 bytes", APPLE)
def _unaligned(op: Op) -> str | None:
    dtype, shape = op.results[0]
    size = (shape[-1] if shape else 1) * (2 if dtype == "float16" else 4)
    wide = dtype.startswith("float") and len(shape) > 1 and shape[-1] > 1 and size % LINE
    return f"{list(shape)}: {size} bytes" if wide and not _fixed(op) else None


@OWN_RULES.add("linear", "advice", "A 1 x 1 convolution is faster than a linear layer", APPLE)
def _linear(op: Op) -> str | None:
    if op.node.type != PRODUCT:
        return None
    producer = op.made_by(1)
    if op.constant(1) is None and (producer is None or producer.type not in (*RESTORED, "transpose")):
        return None
    if producer is not None and producer.type == "transpose" and isinstance(producer.inputs[0][1], Wire):
        source = op.graph.producer(producer.inputs[0][1])
        if source is None or source.type not in RESTORED:
            return None  # of attention: both are computed
    return f"{list(op.results[0][1])}"


@OWN_RULES.add("softmax-axis", "advice", "softmax should be over the channels", APPLE)
def _softmax_axis(op: Op) -> str | None:
    axis = op.constant(1) if op.node.type == "softmax" else None
    shape = op.results[0][1]
    return f"axis {int(axis)} of {list(shape)}" if axis is not None and int(axis) % len(shape) != 1 else None


def _fixed(op: Op) -> bool:
    """Returns whether an operation is known before anything runs."""
    return all(isinstance(value, Constant) for _, value in op.node.inputs)


def _of_two_and_three(number: int) -> bool:
    for prime in (2, 3):
        while number % prime == 0:
            number //= prime
    return number == 1


def lint_asset(
    asset: Asset, device: str, graph_of: Callable[[str], Graph], function: str | None = None
) -> tuple[LintReport, ...]:
    """Applies the shared rules and Core AI's own to every operation of a function, or of all: see `Artifact.lint`."""
    chosen = find_device(device)
    names = [function] if function is not None else list(asset.functions)
    return tuple(_lint(asset.path, name, graph_of(name), chosen) for name in names)


def _lint(path: Path, function: str, graph: Graph, device: Device) -> LintReport:
    shared = [rule for rule in RULES if rule.name in SHARED]
    half = any("float16" in node.settings["result"] for node in graph.nodes)
    counted: set[int] = set()
    operations = []
    weights: list[Finding] = []
    for index, node in enumerate(graph.nodes):
        op = Op(graph, index)
        if node.type in RESTORED:  # a weight, not an operation
            weights += findings_of(OWN_RULES, op)
            continue
        size = _weight_bytes(graph, node, counted)
        on_device = DeviceOperation(_described(op, size), device)
        # Between float16 values the body of a declared function (a layer norm) may be float32: a device has its own
        # way.
        own_way = half and COMPOSITE in node.settings
        applicable = [rule for rule in shared if not (own_way and rule.name == "float32")]
        findings = findings_of(applicable, on_device) + findings_of(OWN_RULES, op)
        operations.append(LintedOperation.of(node.name, node.type, size, findings))
    whole = sum(operation.weight_bytes for operation in operations)
    if whole > LARGEST:
        weights.append(Finding(rule=SIZE.name, level=SIZE.level, detail=f"{whole / 2**30:.2f} GiB of weights"))
    rules = [*map(RuleText.of, shared), *map(RuleText.of, OWN_RULES), SIZE]
    return LintReport.of(path.name, (function, device.name), operations, rules, weights)


def _described(op: Op, weight_bytes: int) -> Operation:
    """Converts an operation to the form that Core ML's rules read."""
    inputs, kinds = {}, _kinds(op.node.settings["operands"])
    for index, ((_, value), (dtype, shape)) in enumerate(zip(op.node.inputs, kinds, strict=True)):
        # Core ML treats shapes, axes and paddings as settings, not as computed tensors.
        name = "x" if index == 0 else f"operand {index}"
        inputs[name] = (Argument(None, dtype, shape, isinstance(value, Constant)),)
    outputs = tuple(Argument(None, dtype, shape, False) for dtype, shape in op.results)
    return Operation(op.node.type, op.node.name, inputs, outputs, weight_bytes, {})


def _kinds(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Parses `float16 [1, 96, 16], int32 []` into types and shapes."""
    entries = (entry.partition(" [")[::2] for entry in text.split("], ") if entry)
    return tuple(
        (dtype, tuple(int(size) for size in sizes.rstrip("]").split(", ") if size)) for dtype, sizes in entries
    )


def _weight_bytes(graph: Graph, node: Node, counted: set[int]) -> int:
    """Returns the bytes of an operation's constants, with those of a restored weight, each counted once."""
    size = 0
    for _, value in node.inputs:
        if isinstance(value, Constant) and id(value.values) not in counted:
            counted.add(id(value.values))
            size += value.values.nbytes
        elif isinstance(value, Wire) and value.node is not None and value.node not in counted:
            maker = graph.nodes[value.node]
            if maker.type in RESTORED:
                counted.add(value.node)
                numbers, *others = (value.values for _, value in maker.inputs if isinstance(value, Constant))
                size += math.ceil(numbers.size * _bits(maker) / 8) + sum(other.nbytes for other in others)
    return size


def _bits(node: Node) -> int:
    """Returns the bits of one stored element of a restored weight."""
    (dtype, _), *_ = _kinds(node.settings["operands"])
    return int("".join(filter(str.isdigit, dtype)))
