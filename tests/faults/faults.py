"""The faults: what goes wrong in conversions, folding, compression and hand-made edits, planted in a written package.

Each plants itself and names the operation at fault; None where no operation is, or which one is named is open.
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
    """A fault in the package of one tower; `needs`: what a package must have for it, see `kinds`."""

    name: str
    tower: TowerName
    plant: Plant
    needs: str | None = None

    def __str__(self) -> str:
        return f"{self.tower}: {self.name}"


def convs(p: Planted, *, pointwise: bool) -> list[Any]:
    """The convolutions of a package with, or without, 1 x 1 kernels."""
    found = []
    for operation in p.block.operations:
        if operation.type == "conv" and (p.shape(operation)[2:] == (1, 1)) == pointwise:
            found.append(operation)
    return found


def same_shaped(p: Planted, kind: str) -> tuple[Any, Any]:
    """Two operations of a type whose weights have the same shape, in program order."""
    seen: dict[tuple[int, ...], Any] = {}
    for operation in p.block.operations:
        if operation.type == kind:
            shape = p.shape(operation)
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
    square = next(op for op in convs(p, pointwise=True) if len(set(p.shape(op)[:2])) == 1)
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
    mixer = next(op for op in convs(p, pointwise=False)[2:] if p.shape(op)[1:] == (1, 3, 3))
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
    operation = next(op for op in convs(p, pointwise=False)[2:] if p.shape(op)[1:] == (1, 3, 3))
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


def joins(p: Planted) -> list[Any]:
    """The additions of a branch to what passes it by."""
    return [
        op
        for op in p.all("add")
        if op.outputs[0].type.tensorType.dataType in (10, 11)
        and not any("const" in p.producer(p.source(op, parameter)).type for parameter in ("x", "y"))
    ]


def dropped(kept: str) -> Plant:
    """Drops one side of an addition. Which operation is named depends on what comes first where it is missed."""

    def plant(p: Planted) -> None:
        p.bypass(joins(p)[1], kept)

    return plant


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
    if len(set(p.shape(operation))) == 1:  # the mask of the text tower's pooling
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
    """A weight, or a scale or entry of a table."""
    operation = [op for op in p.block.operations if op.type == "linear"][-1]
    p.floats(operation).reshape(-1)[7] = np.nan
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
    operation = next(op for op in p.all("add") if op.outputs[0].type.tensorType.dataType in (10, 11))
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


def layer(p: Planted, index: int = 1) -> Any:
    """A convolution or linear layer with a large weight: one that is compressed where any is."""
    large = [op for op in p.block.operations if op.type in ("conv", "linear") and np.prod(p.shape(op)) > 2048]
    return large[index]


def on_layer(change: Callable[[Any], None]) -> Plant:
    """A change of the numbers of a layer's weight, as they are stored."""

    def plant(p: Planted) -> str:
        operation = layer(p)
        change(p.blob(operation))
        return p.name(operation)

    return plant


def scaled(factor: float) -> Callable[[Any], None]:
    """A channel of floats; of integers and indices, which a small factor leaves as they are, some go one up."""

    def change(weight: Any) -> None:
        before = weight[3].copy()
        weight[3] *= factor
        if factor == 1.03 and np.array_equal(np.round(weight[3]), before):
            weight[3].reshape(-1)[0] += 1

    return change


def channels_swapped(weight: Any) -> None:
    weight[[0, 1]] = weight[[1, 0]]


def sign_flipped(weight: Any) -> None:
    """Flips the sign of the number furthest from zero. An index becomes that of another entry."""
    flat = weight.reshape(-1)
    at = int(np.abs(flat.astype(np.float32)).argmax())
    flat[at] = -flat[at]


def one_number(weight: Any) -> None:
    flat = weight.reshape(-1)
    at = int(np.abs(flat.astype(np.float32)).argmax())
    flat[at] *= 0.9


def noise(weight: Any) -> None:
    weight += np.random.default_rng(0).normal(0, 1e-5, weight.shape).astype(weight.dtype)


def coarser(weight: Any) -> None:
    """To seven values."""
    step = float(np.abs(weight).max()) / 3
    weight[...] = np.round(weight.astype(np.float32) / step) * step


def bias_scaled(p: Planted) -> str:
    operation = p.find("conv")
    p.floats(operation, "bias")[...] *= 1.2
    return p.name(operation)


def bytes_by_256(p: Planted) -> str:
    operation = p.find("mul")
    p.set(operation, "y", 1 / 256)
    return p.name(operation)


def outputs_scaled(p: Planted) -> str:
    """Before the last operation, so that the output keeps its name."""
    last = p.producer(p.block.outputs[0])
    name = p.name(last)
    return name if p.through(last, "x", "mul", 100) else ""


def outputs_normalised(p: Planted) -> str:
    last = p.producer(p.block.outputs[0])
    value, name = p.source(last, "x"), p.name(last)
    declared = p.type_of(value)
    axes = p.constant(np.int32([-1]), last)
    keep = p.constant(np.bool_(True), last)
    norm_type = copy.deepcopy(declared)
    norm_type.tensorType.dimensions[-1].constant.size = 1
    norm = p.operation("reduce_l2_norm", p.named(name), norm_type, x=value, axes=axes, keep_dims=keep)
    p.bind(p.named(name), "x", p.operation("real_div", p.named(name), declared, x=value, y=norm))
    return name


def another_output(p: Planted) -> str:
    """The last operation that can takes what was computed earlier in the same shape."""
    computed = [op for op in p.block.operations if "const" not in op.type]
    for place in range(len(computed) - 1, 0, -1):
        operation = computed[place]
        value = p.source(operation, p.main(operation))
        earlier = [out for before in computed[:place] for out in before.outputs if out.name != value]
        other = next((out.name for out in earlier if out.type == p.type_of(value)), None)
        if other is not None:
            p.bind(operation, p.main(operation), other)
            return p.name(operation)
    raise LookupError("no two values have the same shape")


def attention_scaled(p: Planted) -> str:
    """Twice the scale: by the operation that has it, or in front of the one that computes attention as a whole."""
    operation = next(op for op in p.block.operations if op.type in ("softmax", "scaled_dot_product_attention"))
    name = p.name(operation)
    if operation.type == "softmax":
        p.through(operation, "x", "mul", 2)
        return name
    return p.through(operation, "query", "mul", 2)


def causal(p: Planted) -> str:
    """A mask in front of the softmax: -1e4 for what comes later."""
    operation = next(op for op in p.block.operations if op.type in ("softmax", "scaled_dot_product_attention"))
    name, fused = p.name(operation), operation.type != "softmax"
    scores = p.type_of(p.source(operation, "query" if fused else "x"))
    length = scores.tensorType.dimensions[-2].constant.size
    mask = np.triu(np.full((length, length), -1e4, np.float32), 1)
    if fused:
        dtype = np.float16 if scores.tensorType.dataType == 10 else np.float32
        p.bind(p.named(name), "attn_mask", p.constant(mask.astype(dtype), operation))
    else:
        p.through(operation, "x", "add", mask)
    return name


def rows_swapped(p: Planted) -> str:
    """Swaps the rows of two words that no prompt holds: no answer changes."""
    operation = p.find("gather")
    table = p.blob(operation, "x")
    table[[40001, 40002]] = table[[40002, 40001]]
    return p.name(operation)


def row_overwritten(p: Planted) -> str:
    operation = p.find("gather")
    table = p.blob(operation, "x")
    table[40001] = table[320]
    return p.name(operation)


def rare_token(p: Planted) -> str:
    """One id is read as another."""
    first = next(op for op in p.block.operations if p.takes(op, "text"))
    name, ids = p.name(first), p.type_of("text")
    found = copy.deepcopy(ids)
    found.tensorType.dataType = 1
    rare, other = p.constant(np.int32(12345), first), p.constant(np.int32(320), p.named(name))
    p.instead("text", "planted_ids")
    cond = p.operation("equal", p.named(name), found, x="text", y=rare)
    p.operation("select", p.named(name), ids, "planted_ids", cond=cond, a=other, b="text")
    return cond


def scales_doubled(p: Planted) -> str:
    operation, source = next(p.compressed("scale"))
    p.part(source, "scale")[...] *= 2
    return p.name(operation)


def zero_point_moved(p: Planted) -> str:
    operation, source = next(p.compressed("zero_point"))
    p.part(source, "zero_point")[...] += 1
    return p.name(operation)


def table_reversed(p: Planted) -> str:
    operation, source = next(p.compressed("lut"))
    table = p.part(source, "lut")
    table[...] = table[::-1].copy() if table.ndim == 1 else table[..., ::-1, :].copy()
    return p.name(operation)


def indices_shifted(p: Planted) -> str:
    operation, _ = next(p.compressed("lut"))
    indices = p.blob(operation, "x" if operation.type == "gather" else "weight")
    indices.reshape(-1)[...] = np.roll(indices.reshape(-1), 1)
    return p.name(operation)


def range_widened(p: Planted) -> str:
    operation = p.find("quantize", 3)
    p.set(operation, "scale", 2 * p.floats(operation, "scale"))
    return p.name(operation)


def range_moved(p: Planted) -> str:
    operation = p.find("quantize", 3)
    p.set(operation, "zero_point", p.floats(operation, "zero_point") - 5)
    return p.name(operation)


def range_halved(p: Planted) -> str:
    """On both sides: what is rounded by a step is restored by it."""
    operation = p.find("quantize", 3)
    for one in (operation, next(other for other in p.all("dequantize") if p.takes(other, operation.outputs[0].name))):
        p.set(one, "scale", p.floats(one, "scale") / 2)
    return p.name(operation)


def another_version(p: Planted) -> None:
    p.spec.specificationVersion += 1


def another_function(p: Planted) -> None:
    p.spec.mlProgram.functions["other"].CopyFrom(p.spec.mlProgram.functions["main"])


def updatable(p: Planted) -> None:
    p.spec.isUpdatable = True


def declared_floats(p: Planted) -> None:
    p.spec.description.input[0].type.multiArrayType.dataType = 65568


FAULTS = (
    Fault("two same-shaped weights swapped", "image", swapped("conv")),
    Fault("a weight transposed", "image", transposed),
    Fault("one channel times 1.5", "image", channel_scaled),
    Fault("one channel times 1.03", "image", on_layer(scaled(1.03))),
    Fault("one channel zero", "image", on_layer(scaled(0))),
    Fault("two channels swapped", "image", on_layer(channels_swapped)),
    Fault("the sign of one number", "image", on_layer(sign_flipped)),
    Fault("one number times 0.9", "image", on_layer(one_number)),
    Fault("noise of 1e-5", "image", on_layer(noise), needs="float32"),
    Fault("a layer at less than 3 bits", "image", on_layer(coarser)),
    Fault("a dropped bias", "image", bias_dropped),
    Fault("a bias times 1.2", "image", bias_scaled),
    Fault("scales doubled", "image", scales_doubled, needs="scale"),
    Fault("a zero point moved", "image", zero_point_moved, needs="zero_point"),
    Fault("a table in reverse", "image", table_reversed, needs="lut"),
    Fault("indices shifted by one", "image", indices_shifted, needs="lut"),
    Fault("an activation's range doubled", "image", range_widened, needs="quantize"),
    Fault("an activation's zero point moved", "image", range_moved, needs="quantize"),
    Fault("an activation's range halved, on both sides", "image", range_halved, needs="quantize"),
    Fault("BGR declared for RGB", "image", bgr_declared),
    Fault("the first convolution's channels in BGR order", "image", channels_reversed),
    Fault("1/255 missing", "image", bytes_unscaled),
    Fault("1/256 for 1/255", "image", bytes_by_256),
    Fault("mean and std applied twice", "image", normalised_twice),
    Fault("a skip branch forgotten in folding", "image", skip_branch_dropped),
    Fault("`same` padding for custom", "image", padded_same),
    Fault("padding on the wrong side", "image", padded_aside),
    Fault("a dilated convolution", "image", dilated),
    Fault("a stride of one", "image", strided),
    Fault("a reshape for a transpose", "image", viewed),
    Fault("a residual dropped", "image", dropped("y")),
    Fault("relu for GELU", "image", retyped("gelu", "relu")),
    Fault("tanh-GELU for exact GELU", "image", gelu_by_tanh),
    Fault("tanh for sigmoid in squeeze-excite", "image", retyped("sigmoid", "tanh")),
    Fault("maximum for mean in pooling", "image", retyped("reduce_mean", "reduce_max", keep=True)),
    Fault("softmax over the wrong axis", "image", softmax_axis, needs="softmax"),
    Fault("attention not scaled", "image", attention_unscaled, needs="softmax"),
    Fault("attention scaled twice", "image", attention_scaled),
    Fault("queries and keys swapped", "image", queries_and_keys_swapped),
    Fault("a layer scale forgotten", "image", layer_scale_forgotten, needs="softmax"),
    Fault("one NaN weight", "image", not_a_number),
    Fault("outputs times 100", "image", outputs_scaled),
    Fault("outputs normalised", "image", outputs_normalised),
    Fault("the output renamed", "image", output_renamed),
    Fault("another specification version", "image", another_version),
    Fault("a function beside it", "image", another_function),
    Fault("an updatable model", "image", updatable),
    Fault("a float16 output", "text", output_half),
    Fault("float ids declared", "text", declared_floats),
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
    Fault("rows of two words that no prompt holds swapped", "text", rows_swapped),
    Fault("the row of a word that no prompt holds overwritten", "text", row_overwritten),
    Fault("a branch that a rare token takes", "text", rare_token),
    Fault("kernels flipped", "text", kernel_flipped),
    Fault("softmax over the wrong axis", "text", softmax_axis, needs="softmax"),
    Fault("attention not scaled", "text", attention_unscaled, needs="softmax"),
    Fault("attention scaled twice", "text", attention_scaled),
    Fault("a causal mask", "text", causal),
    Fault("a block's branch dropped", "text", dropped("x")),
    Fault("one NaN weight", "text", not_a_number),
    Fault("outputs times 100", "text", outputs_scaled),
    Fault("outputs normalised", "text", outputs_normalised),
    Fault("an output of another operation", "text", another_output),
)
