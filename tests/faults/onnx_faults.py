"""The faults and the harmless edits of ONNX files: each plants itself and says what the check should name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from faults.kinds import Edit
from faults.onnx_planting import PlantedOnnx, Weight, called
from onnx import TensorProto, helper, numpy_helper

from mobileclip_deploy.model.variants import TowerName

__all__ = ["FAULTS", "HARMLESS"]

P = PlantedOnnx
Array = npt.NDArray[Any]
Plant = Callable[[P], str | None]
IMAGE: tuple[TowerName, ...] = ("image",)
TEXT: tuple[TowerName, ...] = ("text",)
INTEGERS = ("w8", "w8a8", "w4")
RARE = 12345  # a word of no prompt
NUMBER = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}


def one(p: P) -> Weight:
    """A weight in the middle of the tower."""
    found = p.weights()
    return found[len(found) // 2]


def same_shaped(p: P) -> tuple[Weight, Weight]:
    """Two weights of a shape, in the graph's order."""
    found = p.weights()
    return next((a, b) for i, a in enumerate(found) for b in found[i + 1 :] if a.get().shape == b.get().shape)


def edited(change: Callable[[Array], Any]) -> Plant:
    return lambda p: one(p).change(change)


def scaled(factor: float, outputs: slice = slice(0, 1)) -> Plant:
    return lambda p: one(p).scale(factor, outputs)


def zeroed(values: Array) -> None:
    values[0] = 0


def swap_rows(values: Array) -> None:
    values[[0, 1]] = values[[1, 0]]


def flip_sign(values: Array) -> None:
    np.clip(-values, values.min(), values.max(), out=values)


def change_one(values: Array) -> None:
    flat = values.reshape(-1)
    at = int(np.abs(flat).argmax())
    flat[at] = flat[at] * 1.1 if flat.dtype.kind == "f" else flat[at] - np.sign(flat[at])
    values[...] = flat.reshape(values.shape)


def coarser(values: Array) -> None:
    """4 bits instead of 8, 16 or 32; 2 instead of 4."""
    step = np.abs(values).max() / 7 if values.dtype.kind == "f" else 4 if np.abs(values).max() <= 8 else 16
    values[...] = np.clip(np.rint(values / step) * step, values.min(), values.max())


def little_noise(values: Array) -> None:
    noise = np.random.default_rng(0).normal(size=values.shape) * 1e-5
    values += (noise * np.sqrt((values**2).mean())).astype(values.dtype)


def steps_of_noise(values: Array) -> None:
    """A step in a hundredth of the numbers."""
    flat = values.reshape(-1)
    flat[::100] += np.where(flat[::100] > 0, -1, 1)
    values[...] = flat.reshape(values.shape)


def weights_swapped(p: P) -> str:
    first, second = same_shaped(p)
    a, b = first.get(), second.get()
    second.set(a)
    return first.set(b)


def weight_of_another_layer(p: P) -> str:
    first, second = same_shaped(p)
    inputs = list(first.node.input)
    first.node.input[inputs.index(first.name)] = second.name
    return first.named


def transposed(p: P) -> str:
    square = next(weight for weight in p.weights() if len({*weight.get().shape[:2]}) == 1)
    return square.change(lambda values: values.swapaxes(0, 1).copy())


def kernel_flipped(p: P) -> str:
    """Mirrors the kernel of a depthwise convolution, whose numbers may be floats."""
    conv = next(node for node in p.all("Conv") if p.has(node.input[1]) and p.array(node.input[1]).shape[-1] > 1)
    return p.change(conv.input[1], lambda values: values[..., ::-1])


def not_a_number(p: P) -> str:
    conv = next(node for node in p.all("Conv") if p.has(node.input[1]))
    return p.change(conv.input[1], lambda values: values.reshape(-1).__setitem__(7, np.nan))


def zero_point(p: P) -> str:
    """Another zero point of a weight: where it stands, or as a new input."""
    kinds = ("DequantizeLinear", "MatMulInteger", "MatMulNBits")
    weight = next(weight for weight in p.weights() if weight.node.op_type in kinds)
    node, outputs = weight.node, len(weight.get())
    if node.op_type == "DequantizeLinear":
        return p.change(node.input[2], lambda values: values + 1)
    if node.op_type == "MatMulInteger":
        node.input.append(p.add("planted_zero", np.ones(outputs, np.int8)))
    else:
        blocks = p.array(node.input[2]).shape[1]
        node.input.append(p.add("planted_zero", np.full((outputs, -(-blocks // 2)), 0x99, np.uint8)))
    return weight.named


def nibbles_swapped(p: P) -> str:
    weight = next(weight for weight in p.weights() if weight.node.op_type == "MatMulNBits")
    return p.change(weight.name, lambda values: values >> 4 | values << 4)


def blocks_shifted(p: P) -> str:
    """Each block has the scale of its neighbour."""
    weight = next(weight for weight in p.weights() if weight.node.op_type == "MatMulNBits")
    assert weight.scales is not None
    return p.change(weight.scales, lambda values: np.roll(values, 1, axis=1))


def activation_range(p: P) -> str:
    return p.change(p.find("QuantizeLinear", 3).input[1], lambda values: values * 1.1)


def activation_zero(p: P) -> str:
    return p.change(p.find("QuantizeLinear", 3).input[2], lambda values: values + 1)


def activation_restored(p: P) -> str:
    """By another step than it was rounded by."""
    rounded = p.find("QuantizeLinear", 3)
    (restored,) = p.users(rounded.output[0])
    restored.input[1] = p.add("planted_step", p.array(restored.input[1]) * np.float32(1.1))
    return called(restored)


def activation_ranges_swapped(p: P) -> str:
    """What is rounded has the steps of another value, and the other its own."""
    first, second = (p.find("QuantizeLinear", number).input[1] for number in (3, 8))
    a, b = p.array(first), p.array(second)
    p.store(second, a)
    return p.change(first, lambda _: b)


def activations_cut_off(p: P) -> str:
    """Half of the range, as often as what is rounded is used."""
    for name in sorted({node.input[1] for node in p.all("QuantizeLinear")}):
        p.change(name, lambda values: values / 2)
    return called(p.find("QuantizeLinear"))


def activation_not_rounded(p: P) -> str:
    rounded = p.find("QuantizeLinear", 3)
    (restored,) = p.users(rounded.output[0])
    p.graph.node.remove(rounded)
    return p.bypass(restored, rounded.input[0])


def biased_conv(p: P) -> onnx.NodeProto:
    return next(node for node in p.all("Conv") if len(node.input) > 2 and p.has(node.input[2]))


def bias_dropped(p: P) -> str:
    conv = biased_conv(p)
    del conv.input[2]
    return called(conv)


def bias_scaled(p: P) -> str:
    return p.change(biased_conv(p).input[2], lambda values: values * 1.1)


def bias_of_a_product_dropped(p: P) -> str:
    add = next(node for node in p.all("Add") if p.has(node.input[1]) and p.array(node.input[1]).ndim == 1)
    return p.bypass(add, add.input[0])


def setting(kind: str, name: str, value: Any, number: int = 0) -> Plant:
    return lambda p: p.set(p.find(kind, number), name, value)


def retyped(old: str, new: str) -> Plant:
    def plant(p: P) -> str:
        node = p.find(old)
        node.op_type = new
        del node.attribute[:]
        return called(node)

    return plant


def gelus_by_tanh(p: P) -> str:
    names = [p.set(node, "approximate", "tanh") for node in p.all("Gelu")]
    return names[0]


def epsilon(p: P) -> str:
    names = [p.set(node, "epsilon", 1e-3) for node in p.all("LayerNormalization")]
    return names[0]


def queries(p: P) -> onnx.NodeProto:
    """The multiplication of the queries with the root of 1 / sqrt(head dimension)."""
    scores = p.producer(p.find("Softmax").input[0])
    return p.producer(scores.input[0])


def attention_scale(p: P) -> str:
    node = queries(p)
    node.input[1] = p.add("planted_scale", p.array(node.input[1]) * 2)
    return called(node)


def queries_and_keys_swapped(p: P) -> str:
    split = p.find("Split")
    split.output[0], split.output[1] = split.output[1], split.output[0]
    return called(p.users(split.output[1])[0])


def causal(p: P) -> str:
    scores = p.find("Softmax").input[0]
    size = 77
    mask = np.triu(np.full((size, size), -1e4), 1).astype(p.array(queries(p).input[1]).dtype)
    return p.insert(scores, "Add", p.add("planted_mask", mask))


def residual(kept: int) -> Plant:
    """Only the branch, or only what passes it by."""

    def plant(p: P) -> str:
        add = [node for node in p.all("Add") if not any(map(p.has, node.input))][1]
        return p.bypass(add, add.input[kept])

    return plant


def layer_scale_forgotten(p: P) -> str:
    node = next(node for node in p.all("Mul") if "layer_scale" in node.input[0])
    return p.change(node.input[0], np.ones_like)


def inputs_moved(p: P) -> str:
    return p.insert("pixel_values", "Sub", p.add("planted_mean", np.float32(0.45)))


def outputs_scaled(p: P) -> str:
    return p.append("Mul", p.add("planted_factor", np.float32(100)))


def rare_branch(p: P) -> str:
    """A word that no prompt holds turns the embedding."""
    ids, words, axes = p.graph.input[0].name, p.add("planted_word", np.int64(RARE)), p.add("planted_axes", [1])
    last = [
        helper.make_node("Equal", [ids, words], ["planted_is"], name="planted Equal"),
        helper.make_node("Cast", ["planted_is"], ["planted_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["planted_float", axes], ["planted_any"]),
    ]
    p.graph.node.extend(last)
    p.append("Add", "planted_any")
    return called(last[0])


def ids_shifted(p: P) -> str:
    return p.insert(p.graph.input[0].name, "Add", p.add("planted_one", np.int64(1)))


def rows_of_rare_words(change: Callable[[Array], Any]) -> Plant:
    def plant(p: P) -> str:
        table = p.table()
        values = table.get()
        values[RARE : RARE + 2] = change(values[RARE : RARE + 2])
        return table.set(values)

    return plant


def row_scaled(p: P) -> str:
    return p.table().scale(1.5, slice(RARE, RARE + 1))


def table_shifted(p: P) -> str:
    return p.table().change(lambda values: np.roll(values, 1, axis=0))


def positions_shifted(p: P) -> str:
    name = next(tensor.name for tensor in p.graph.initializer if "positional_embedding" in tensor.name)
    return p.change(name, lambda values: np.roll(values, 1, axis=0))


def end_of_text(p: P) -> str:
    return p.change(p.find("Equal").input[1], lambda values: values - 1)


def earlier_positions(p: P) -> str:
    """The mask that finds the first end of text finds the last instead."""
    return p.change("earlier" if p.has("earlier") else "tower.earlier", lambda values: values.T)


def wide_conv(p: P) -> onnx.NodeProto:
    return next(node for node in p.all("Conv") if [*conv_setting(node, "kernel_shape")][-1] > 1)


def conv_setting(node: onnx.NodeProto, name: str) -> Any:
    return next(helper.get_attribute_value(given) for given in node.attribute if given.name == name)


def padded_aside(p: P) -> str:
    conv = wide_conv(p)
    top, left, bottom, right = conv_setting(conv, "pads")
    return p.set(conv, "pads", [top, left - 1, bottom, right + 1])


def dilated(p: P) -> str:
    """With the padding that leaves the shape as it was."""
    conv = [node for node in p.all("Conv") if [*conv_setting(node, "kernel_shape")][-1] > 1][2]
    pads = conv_setting(conv, "pads")
    p.set(conv, "pads", [2 * size for size in pads])
    return p.set(conv, "dilations", [1 if pads[0] == 0 else 2, 2])


def pooled_by_maximum(p: P) -> str:
    node = p.all("ReduceMean")[-1]
    node.op_type = "ReduceMax"
    return called(node)


def norm_dropped(p: P) -> str:
    norm = p.all("LayerNormalization")[-1]
    p.bypass(norm, norm.input[0])
    return called(norm)


def gain_and_shift_swapped(p: P) -> str:
    norm = p.find("LayerNormalization")
    norm.input[1], norm.input[2] = norm.input[2], norm.input[1]
    return called(norm)


def taken_from_another(p: P) -> str:
    """The last activation is passed by."""
    mean = p.all("ReduceMean")[-1]
    mean.input[0] = p.producer(mean.input[0]).input[0]
    return called(mean)


def output_renamed(p: P) -> None:
    name = p.graph.output[0].name
    p.producer(name).output[0] = p.graph.output[0].name = "embedding"


def half_in_between(p: P) -> str:
    """What lies in between is rounded to bfloat16."""
    gelu = p.find("Gelu").output[0]
    first = p.insert(gelu, "Cast", to=TensorProto.BFLOAT16)
    p.insert(f"{gelu}_Cast", "Cast", to=NUMBER[p.array(biased_conv(p).input[2]).dtype])
    return first


def said_anew(p: P) -> str:
    """A function in the file that is called as an operator is."""
    body = [helper.make_node("Relu", ["X"], ["Y"])]
    opsets = [helper.make_opsetid("", 20)]
    p.model.functions.append(helper.make_function("", "Gelu", ["X"], ["Y"], body, opsets))
    return called(p.graph.node[0])


def numbers_elsewhere(p: P) -> str:
    tensor = max(p.graph.initializer, key=lambda tensor: tensor.ByteSize())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")
    return "is not a valid ONNX model"


def defined_twice(p: P) -> str:
    tensor = p.graph.initializer.add()
    tensor.CopyFrom(next(known for known in p.graph.initializer if "bias" in known.name))
    tensor.raw_data = bytes(len(tensor.raw_data))
    return "is not a valid ONNX model"


FAULTS: tuple[Edit[P], ...] = (
    Edit("a channel scaled by 1.03", scaled(1.03)),
    Edit("a channel scaled by 1.5", scaled(1.5)),
    Edit("a channel zeroed", edited(zeroed)),
    Edit("two channels swapped", edited(swap_rows)),
    Edit("the weights of two layers swapped", weights_swapped),
    Edit("the weight of another layer", weight_of_another_layer),
    Edit("a weight transposed", transposed),
    Edit("a sign flipped", edited(flip_sign)),
    Edit("one number changed", edited(change_one)),
    Edit("a layer at half its bits or fewer", edited(coarser)),
    Edit("noise of 1e-5", edited(little_noise), precisions=("fp32",)),
    Edit("noise of a step", edited(steps_of_noise), precisions=INTEGERS),
    Edit("all scales doubled", scaled(2, slice(None))),
    Edit("a zero point moved", zero_point, precisions=("w8a8", "w4")),
    Edit("two numbers of a byte swapped", nibbles_swapped, precisions=("w4",)),
    Edit("scales of the neighbouring blocks", blocks_shifted, precisions=("w4",)),
    Edit("a range of activations", activation_range, IMAGE, ("w8a8",)),
    Edit("a zero point of activations", activation_zero, IMAGE, ("w8a8",)),
    Edit("activations restored by another step", activation_restored, IMAGE, ("w8a8",)),
    Edit("ranges of two activations swapped", activation_ranges_swapped, IMAGE, ("w8a8",)),
    Edit("every range of activations halved", activations_cut_off, IMAGE, ("w8a8",)),
    Edit("activations that are not rounded", activation_not_rounded, IMAGE, ("w8a8",)),
    Edit("a kernel flipped", kernel_flipped),
    Edit("one NaN", not_a_number),
    Edit("a bias dropped", bias_dropped),
    Edit("a bias scaled", bias_scaled),
    Edit("the bias of a product dropped", bias_of_a_product_dropped),
    Edit("tanh-GELU", gelus_by_tanh),
    Edit("relu for GELU", retyped("Gelu", "Relu")),
    Edit("tanh for sigmoid in squeeze-excite", retyped("Sigmoid", "Tanh"), IMAGE),
    Edit("LayerNorm's epsilon", epsilon, TEXT),
    Edit("LayerNorm's gain and shift swapped", gain_and_shift_swapped, TEXT),
    Edit("the last LayerNorm dropped", norm_dropped, TEXT),
    Edit("softmax over another axis", setting("Softmax", "axis", -2)),
    Edit("another attention scale", attention_scale),
    Edit("queries and keys swapped", queries_and_keys_swapped),
    Edit("a causal mask", causal, TEXT),
    Edit("a residual dropped", residual(1)),
    Edit("a branch dropped", residual(0)),
    Edit("a layer scale forgotten", layer_scale_forgotten),
    Edit("a mean subtracted", inputs_moved, IMAGE),
    Edit("outputs times 100", outputs_scaled),
    Edit("outputs normalised", lambda p: p.append("LpNormalization", axis=1)),
    Edit("another factor of the projection", setting("Gemm", "alpha", 0.5), precisions=("fp32", "fp16", "w8", "w4")),
    Edit("a branch that a rare word takes", rare_branch, TEXT),
    Edit("ids shifted", ids_shifted, TEXT),
    Edit("rows of rare words swapped", rows_of_rare_words(lambda rows: rows[::-1].copy()), TEXT),
    Edit("rows of rare words overwritten", rows_of_rare_words(np.zeros_like), TEXT),
    Edit("the row of a rare word scaled", row_scaled, TEXT),
    Edit("the table of words shifted", table_shifted, TEXT),
    Edit("positions shifted", positions_shifted, TEXT),
    Edit("another end of text", end_of_text, TEXT),
    Edit("pooled at the last end of text", earlier_positions, TEXT),
    Edit("padding on another side", padded_aside),
    Edit("padding by a rule", lambda p: p.set(p.find("Conv"), "auto_pad", "SAME_UPPER"), IMAGE),
    Edit("a dilated convolution", dilated),
    Edit("a stride", setting("Conv", "strides", [1, 1]), IMAGE),
    Edit("pooled by the maximum", pooled_by_maximum, IMAGE),
    Edit("the last activation passed by", taken_from_another, IMAGE),
    Edit("rounded in between", half_in_between),
    Edit("the output renamed", output_renamed),
    Edit("an operator said anew", said_anew),
    Edit("numbers in another file", numbers_elsewhere),
    Edit("a constant said twice", defined_twice),
)


# What says the same in other words


def operations_renamed(p: P) -> None:
    for number, node in enumerate(p.graph.node):
        node.name = f"operation {number}"


def tensors_renamed(p: P) -> None:
    kept = {value.name for value in (*p.graph.input, *p.graph.output)}
    for node in p.graph.node:
        node.input[:] = [name if name in kept or not name else f"t.{name}" for name in node.input]
        node.output[:] = [name if name in kept else f"t.{name}" for name in node.output]
    for tensor in p.graph.initializer:
        tensor.name = f"t.{tensor.name}"


def constants_reordered(p: P) -> None:
    tensors = [*p.graph.initializer][::-1]
    del p.graph.initializer[:]
    p.graph.initializer.extend(tensors)


def operations_reordered(p: P) -> None:
    """As late as can be, seen from the end."""
    waiting, order = [*p.graph.node], []
    while waiting:
        needed = {name for node in waiting for name in node.input}
        node = next(node for node in waiting if not needed & {*node.output})  # the first that none waits for
        waiting.remove(node)
        order.append(node)
    assert [*p.graph.node] != order[::-1]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(order)]
    del p.graph.node[:]
    p.graph.node.extend(copies)


def numbers_as_numbers(p: P) -> None:
    """float_data and int64_data for raw_data."""
    for tensor in p.graph.initializer:
        values = numpy_helper.to_array(tensor).reshape(-1)
        field = {TensorProto.FLOAT: tensor.float_data, TensorProto.INT64: tensor.int64_data}.get(tensor.data_type)
        if field is not None and values.size < 10_000:
            tensor.ClearField("raw_data")
            field.extend(values.tolist())


def texts_added(p: P) -> None:
    p.model.doc_string = p.graph.doc_string = p.graph.node[0].doc_string = "a note"
    p.model.producer_name = "another tool"
    p.model.metadata_props.add(key="note", value="a note")
    p.graph.initializer[0].doc_string = "a note"


def unused_added(p: P) -> None:
    spare = p.add("spare", np.ones(5, np.float32))
    p.graph.node.insert(0, helper.make_node("Neg", [spare], ["spare_negative"]))


def constants_as_operations(p: P) -> None:
    tensors = [*p.graph.initializer]
    del p.graph.initializer[:]
    for tensor in tensors:
        p.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))


def defaults_left_out(p: P) -> None:
    for node in p.all("Softmax", "Gelu", "LayerNormalization", "Conv", "Gemm"):
        for name in ("axis", "approximate", "stash_type", "auto_pad", "alpha", "beta"):
            p.set(node, name, None)
    for node in p.all("Softmax", "LayerNormalization"):
        assert all(given.name != "axis" for given in node.attribute)


def constants_apart(p: P) -> None:
    """Each user has a copy of its own."""
    for number, node in enumerate(p.graph.node):
        for index, name in enumerate(node.input):
            if p.has(name) and len(p.users(name)) > 1:
                node.input[index] = p.add(f"{name}_{number}_{index}", p.array(name))


def batch_renamed(p: P) -> None:
    for value in (*p.graph.input, *p.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"


HARMLESS: tuple[Edit[P], ...] = (
    Edit("operations renamed", operations_renamed),
    Edit("values renamed", tensors_renamed),
    Edit("constants in another order", constants_reordered),
    Edit("operations in another order", operations_reordered),
    Edit("numbers written in other fields", numbers_as_numbers),
    Edit("texts added", texts_added),
    Edit("something unused added", unused_added),
    Edit("constants as operations", constants_as_operations),
    Edit("defaults left out", defaults_left_out),
    Edit("constants not shared", constants_apart),
    Edit("the batch renamed", batch_renamed),
)
