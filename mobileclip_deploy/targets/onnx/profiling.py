"""What each operator of one inference takes, computes and moves: the events of ONNX Runtime's own profiler, and shapes.

An event names its node and the shapes of what flows through it. Weights that a kernel has packed for itself are missing
there, so their shapes come from the graph as the runtime optimized it, which it writes beside its profile.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mobileclip_deploy.targets.benchmarking import KernelTime, Work, by_work

WARM_UP, COUNTED = 2, 10
EVENT = "_kernel_time"
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Which input is the weight, [outputs, inputs of a group, ...]."""
PRODUCTS = frozenset(
    ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits", "MatMulInteger", "MatMulIntegerToFloat")
) | frozenset(("QLinearMatMul", "QGemm", "DynamicQuantizeMatMul"))
UNCOUNTED = frozenset(
    ("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention", "Einsum", "ConvTranspose", "QMoE", "MoE")
) | frozenset(("LSTM", "GRU", "RNN", "If", "Loop", "Scan"))
"""What they multiply does not follow from one weight's shape; they have a time and nothing else."""
INTEGERS = frozenset(("uint8", "int8"))
TYPES: Mapping[str, Literal["float32", "float16"]] = {"float": "float32", "float16": "float16"}


@dataclass(frozen=True)
class _Node:
    """A node of the optimized graph: the shapes of its constants by position, and its numbers and texts."""

    shapes: tuple[tuple[int, ...] | None, ...]
    weight_bytes: int
    attributes: Mapping[str, int]


def operator_times(session: Any, run: Callable[[], None], graph: Path) -> tuple[KernelTime, ...]:
    """The least that each call took in ten inferences, by operator and kind of convolution, the most expensive first.

    The least, as of a machine's limit: what interrupts a call is none of its work.

    Args:
        session: with profiling enabled; it is ended.
        run: one inference of it.
        graph: where it has written its optimized graph; what operators compute is known where onnx is installed.
    """
    for _ in range(WARM_UP + COUNTED):
        run()
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if str(event.get("name", "")).endswith(EVENT)]
    calls = len(kernels) // (WARM_UP + COUNTED)
    nodes = _nodes(graph) if importlib.util.find_spec("onnx") else {}
    rows = []
    for number in range(calls):
        same = kernels[WARM_UP * calls + number :: calls]
        microseconds = min(event["dur"] for event in same)
        node = nodes.get(same[0]["name"].removesuffix(EVENT))
        rows.append((same[0]["args"]["op_name"], microseconds * 1000, _work(same[0]["args"], node)))
    return by_work(rows)


def _nodes(graph: Path) -> dict[str, _Node | None]:
    """The graph's nodes by name; None where two have the same."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    constants = {one.name: one for one in model.graph.initializer}
    found: dict[str, _Node | None] = {}
    for node in model.graph.node:
        weights = [constants.get(name) for name in node.input]
        sizes = [
            math.prod(one.dims) * onnx.helper.tensor_dtype_to_np_dtype(one.data_type).itemsize for one in weights if one
        ]
        integers = {one.name: one.i for one in node.attribute if one.type == onnx.AttributeProto.INT}
        described = _Node(tuple(tuple(one.dims) if one else None for one in weights), sum(sizes), integers)
        found[node.name] = None if node.name in found else described
    return found


def _work(event: Mapping[str, Any], node: _Node | None) -> Work | None:
    """What the call of an event computes and moves; None where that is not known."""
    operator = event["op_name"]
    if operator in UNCOUNTED:
        return None
    moved = int(event["activation_size"]) + int(event["output_size"])
    if operator not in CONVOLUTIONS and operator not in PRODUCTS:
        return Work(0, moved + int(event["parameter_size"]))
    if node is None:
        return None
    moved += node.weight_bytes
    given, results = (_shapes(event[f"{name}_type_shape"]) for name in ("input", "output"))
    (kind, source), outputs = given[0] if given else ("", ()), math.prod(results[0][1]) if results else 0
    arithmetic = "int8" if kind in INTEGERS or operator == "DynamicQuantizeMatMul" else TYPES.get(kind)
    if operator in CONVOLUTIONS:
        weight = node.shapes[CONVOLUTIONS[operator]]
        if weight is None:
            return None
        return Work(2 * outputs * math.prod(weight[1:]), moved, _kind(weight, node.attributes), arithmetic)
    depth = source[-2] if node.attributes.get("transA", 0) else source[-1]
    if operator == "MatMulNBits" and node.attributes.get("accuracy_level", 0) == 4:
        arithmetic = "int8"
    return Work(2 * outputs * depth, moved, None, arithmetic)


def _shapes(described: list[dict[str, list[int]]]) -> list[tuple[str, tuple[int, ...]]]:
    """[{"float": [1, 3]}, ...] -> types and shapes."""
    return [(kind, tuple(shape)) for one in described for kind, shape in one.items()]


def _kind(weight: tuple[int, ...], attributes: Mapping[str, int]) -> str:
    """`7x7 depthwise`: a convolution's kernel, and how its channels are grouped."""
    groups = attributes.get("group", 1)
    grouped = "" if groups == 1 else " depthwise" if weight[1] == 1 else " grouped"
    return "x".join(map(str, weight[2:])) + grouped
