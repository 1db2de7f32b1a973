"""The faults: what goes wrong in conversions, folding, compression and hand-made edits, planted in a written package.

Each plants itself and names the operation at which the package first computes something else, None where an input or
output of the package is what is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from faults.planting import Planted

from mobileclip_deploy.model.variants import TowerName

__all__ = ["FAULTS", "Fault"]

Plant = Callable[[Planted], str | None]


@dataclass(frozen=True)
class Fault:
    """A fault in the package of one tower; `unreadable`: the package contradicts itself and is not even loaded."""

    name: str
    tower: TowerName
    plant: Plant
    unreadable: bool = False

    def __str__(self) -> str:
        return f"{self.tower}: {self.name}"


def convs(p: Planted, *, pointwise: bool) -> list[Any]:
    """The convolutions of a package with, or without, 1 x 1 kernels."""
    found = []
    for operation in p.block.operations:
        if operation.type == "conv":
            shape = p.blob(operation).shape
            if (shape[2:] == (1, 1)) == pointwise:
                found.append(operation)
    return found


def same_shaped(p: Planted, kind: str) -> tuple[Any, Any]:
    """Two operations of a type whose weights have the same shape, in program order."""
    seen: dict[tuple[int, ...], Any] = {}
    for operation in p.block.operations:
        if operation.type == kind:
            shape = p.blob(operation).shape
            if shape in seen and np.prod(shape) > 64:
                return seen[shape], operation
            seen.setdefault(shape, operation)
    raise LookupError(kind)


def swapped(kind: str) -> Plant:
    def plant(p: Planted) -> str:
        first, second = same_shaped(p, kind)
        a, b = p.blob(first), p.blob(second)
        a[...], b[...] = b.copy(), a.copy()
        return p.name(first)

    return plant


def transposed(p: Planted) -> str:
    square = next(op for op in convs(p, pointwise=True) if len(set(p.blob(op).shape[:2])) == 1)
    weight = p.blob(square)
    weight[...] = weight.copy().swapaxes(0, 1)
    return p.name(square)


def channel_scaled(p: Planted) -> str:
    operation = convs(p, pointwise=True)[1]
    p.blob(operation)[0] *= 1.5
    return p.name(operation)


def bias_dropped(p: Planted) -> str:
    operation = p.find("conv")
    del operation.inputs["bias"]
    return p.name(operation)


def bgr_declared(p: Planted) -> None:
    p.spec.description.input[0].type.imageType.colorSpace = 30


def channels_reversed(p: Planted) -> str:
    operation = p.find("conv")
    weight = p.blob(operation)
    weight[...] = weight[:, ::-1].copy()
    return p.name(operation)


def bytes_unscaled(p: Planted) -> str:
    operation = p.find("mul")
    p.set(operation, "y", 1.0)
    return p.name(operation)


def normalised_twice(p: Planted) -> str:
    scale = p.find("mul")
    first = p.insert_after(scale, "sub", 0.45, "planted_mean")
    p.insert_after(first, "mul", 1 / 0.27, "planted_std")
    return "planted_mean"


def skip_branch_dropped(p: Planted) -> str:
    """Folding a RepMixer adds one to the middle of its 3 x 3 kernels: the identity."""
    mixer = next(op for op in convs(p, pointwise=False)[2:] if p.blob(op).shape[1:] == (1, 3, 3))
    p.blob(mixer)[:, 0, 1, 1] -= 1
    return p.name(mixer)


def padded_same(p: Planted) -> str:
    """A stride of 2: `same` pads right and bottom only."""
    operation = p.find("conv")
    p.set(operation, "pad_type", "same")
    return p.name(operation)


def padded_aside(p: Planted) -> str:
    operation = convs(p, pointwise=False)[2]
    p.set(operation, "pad", [0, 2, 0, 2])
    return p.name(operation)


def dilated(p: Planted) -> str:
    operation = next(op for op in convs(p, pointwise=False)[2:] if p.blob(op).shape[1:] == (1, 3, 3))
    p.set(operation, "dilations", [2, 2])
    p.set(p.named(p.name(operation)), "pad", [2, 2, 2, 2])
    return p.name(operation)


def strided(p: Planted) -> str | None:
    p.set(p.find("conv"), "strides", [1, 1])
    return None


def viewed(p: Planted) -> str:
    """A reshape where the axes should have been swapped."""
    operation = p.find("transpose")
    shape = [dimension.constant.size for dimension in operation.outputs[0].type.tensorType.dimensions]
    p.set(operation, "perm", shape)
    operation = p.named(p.name(operation))
    operation.inputs["shape"].CopyFrom(operation.inputs["perm"])
    del operation.inputs["perm"]
    operation.type = "reshape"
    return p.name(operation)


def residual_dropped(p: Planted) -> str:
    add = [op for op in p.block.operations if op.type == "add"][1]
    name = p.name(add)
    p.bypass(add, "y")
    return name


def branch_dropped(p: Planted) -> str:
    """What is missed first is where the branch leaves."""
    add = [op for op in p.block.operations if op.type == "add"][1]
    first = p.producer(p.source(add, "y"))
    while p.source(first, "x") != p.source(add, "x"):
        first = p.producer(p.source(first, "x"))
    p.bypass(add, "x")
    return p.name(first)


def retyped(old: str, new: str, keep: bool = False) -> Plant:
    def plant(p: Planted) -> str:
        operation = p.find(old)
        if keep:
            operation.type = new
        else:
            p.retype(operation, new)
        return p.name(operation)

    return plant


def gelu_by_tanh(p: Planted) -> str:
    names = [p.name(op) for op in p.block.operations if op.type == "gelu"]
    for name in names:
        p.set(p.named(name), "mode", "TANH_APPROXIMATION")
    return names[0]


def softmax_axis(p: Planted) -> str:
    operation = p.find("softmax")
    p.set(operation, "axis", -2)
    return p.name(operation)


def attention_unscaled(p: Planted) -> str:
    """The product of the queries with 1 / sqrt(head dimension), right after the split."""
    operations = list(p.block.operations)
    start = operations.index(p.find("split"))
    operation = next(op for op in operations[start:] if op.type == "mul")
    p.set(operation, "y", 1.0)
    return p.name(operation)


def queries_and_keys_swapped(p: Planted) -> str:
    """Without a scale between them nothing changes: the softmax then runs over queries."""
    operation = p.find("linear")
    if p.blob(operation).shape[0] == p.blob(operation).shape[1]:  # the mask of the text tower's pooling
        operation = p.find("linear", 1)
    for parameter in ("weight", "bias"):
        values = p.blob(operation, parameter)
        third = len(values) // 3
        values[: 2 * third] = np.concatenate([values[third : 2 * third], values[:third]])
    return p.name(operation)


def layer_scale_forgotten(p: Planted) -> str:
    operations = list(p.block.operations)
    start = operations.index(p.find("softmax"))
    operation = next(
        op for op in operations[start:] if op.type == "mul" and p.producer(p.source(op, "x")).type == "const"
    )
    p.blob(operation, "x")[...] = 1
    return p.name(operation)


def not_a_number(p: Planted) -> str:
    operation = [op for op in p.block.operations if op.type == "linear"][-1]
    p.blob(operation).reshape(-1)[7] = np.nan
    return p.name(operation)


def output_renamed(p: Planted) -> None:
    name = p.spec.description.output[0].name
    p.spec.description.output[0].name = "embedding"
    p.producer(name).outputs[0].name = "embedding"
    p.block.outputs[0] = "embedding"


def output_half(p: Planted) -> None:
    """float16 computed and declared: what coremltools gives when the output type is not asked for."""
    name = p.block.outputs[0]
    last = p.producer(name)
    last.outputs[0].name = "planted_wide"
    cast = copy.deepcopy(p.find("cast"))
    cast.attributes["name"].immediateValue.tensor.strings.values[0] = "planted_cast"
    cast.outputs[0].CopyFrom(last.outputs[0])
    cast.outputs[0].name = name
    cast.outputs[0].type.tensorType.dataType = 10
    p.bind(cast, "x", "planted_wide")
    p.block.operations.append(cast)
    p.set(p.named("planted_cast"), "dtype", "fp16")
    p.spec.description.output[0].type.multiArrayType.dataType = 65552


def epsilon(p: Planted) -> str:
    names = [p.name(op) for op in p.block.operations if op.type == "layer_norm"]
    for name in names:
        p.set(p.named(name), "epsilon", 1e-3)
    return names[0]


def end_of_text(number: int) -> Plant:
    def plant(p: Planted) -> str:
        operation = p.find("equal")
        p.set(operation, "y", number)
        return p.name(operation)

    return plant


def positions_shifted(p: Planted) -> str:
    operation = p.find("add")
    table = p.blob(operation, "y")
    table[...] = np.roll(table, 1, axis=0)
    return p.name(operation)


def embeddings_shifted(p: Planted) -> str:
    operation = p.find("gather")
    table = p.blob(operation, "x")
    table[...] = np.roll(table, 1, axis=0)
    return p.name(operation)


def gain_and_shift_swapped(p: Planted) -> str:
    operation = p.find("layer_norm")
    gamma, beta = p.source(operation, "gamma"), p.source(operation, "beta")
    p.bind(operation, "gamma", beta)
    p.bind(operation, "beta", gamma)
    return p.name(operation)


def kernel_flipped(p: Planted) -> str:
    operation = p.find("conv")
    kernel = p.blob(operation)
    kernel[...] = kernel[..., ::-1].copy()
    return p.name(operation)


def last_norm_dropped(p: Planted) -> str:
    norm = [op for op in p.block.operations if op.type == "layer_norm"][-1]
    name = p.name(norm)
    p.bypass(norm, "x")
    return name


def weight_of_another_layer(p: Planted) -> str:
    first, second = same_shaped(p, "linear")
    p.bind(first, "weight", p.source(second, "weight"))
    return p.name(first)


FAULTS = (
    Fault("two same-shaped weights swapped", "image", swapped("conv")),
    Fault("a weight transposed", "image", transposed),
    Fault("one channel's scale", "image", channel_scaled),
    Fault("a dropped bias", "image", bias_dropped),
    Fault("BGR declared for RGB", "image", bgr_declared),
    Fault("the first convolution's channels in BGR order", "image", channels_reversed),
    Fault("1/255 missing", "image", bytes_unscaled),
    Fault("mean and std applied twice", "image", normalised_twice),
    Fault("a skip branch forgotten in folding", "image", skip_branch_dropped),
    Fault("`same` padding for custom", "image", padded_same),
    Fault("padding on the wrong side", "image", padded_aside),
    Fault("a dilated convolution", "image", dilated),
    Fault("a stride of one", "image", strided, unreadable=True),
    Fault("a reshape for a transpose", "image", viewed),
    Fault("a residual dropped", "image", residual_dropped),
    Fault("relu for GELU", "image", retyped("gelu", "relu")),
    Fault("tanh-GELU for exact GELU", "image", gelu_by_tanh),
    Fault("tanh for sigmoid in squeeze-excite", "image", retyped("sigmoid", "tanh")),
    Fault("maximum for mean in pooling", "image", retyped("reduce_mean", "reduce_max", keep=True)),
    Fault("softmax over the wrong axis", "image", softmax_axis),
    Fault("attention not scaled", "image", attention_unscaled),
    Fault("queries and keys swapped", "image", queries_and_keys_swapped),
    Fault("a layer scale forgotten", "image", layer_scale_forgotten),
    Fault("one NaN weight", "image", not_a_number),
    Fault("the output renamed", "image", output_renamed),
    Fault("a float16 output", "text", output_half),
    Fault("two same-shaped weights swapped", "text", swapped("linear")),
    Fault("a weight of another layer", "text", weight_of_another_layer),
    Fault("LayerNorm's epsilon 1e-3 for 1e-5", "text", epsilon),
    Fault("tanh-GELU for exact GELU", "text", gelu_by_tanh),
    Fault("LayerNorm's gain and shift swapped", "text", gain_and_shift_swapped),
    Fault("the last LayerNorm dropped", "text", last_norm_dropped),
    Fault("a wrong end-of-text id", "text", end_of_text(49406)),
    Fault("pooled at the token after end-of-text", "text", end_of_text(0)),
    Fault("position table shifted by one", "text", positions_shifted),
    Fault("embedding table shifted by one", "text", embeddings_shifted),
    Fault("kernels flipped", "text", kernel_flipped),
    Fault("softmax over the wrong axis", "text", softmax_axis),
    Fault("attention not scaled", "text", attention_unscaled),
    Fault("a block's branch dropped", "text", branch_dropped),
    Fault("one NaN weight", "text", not_a_number),
)
