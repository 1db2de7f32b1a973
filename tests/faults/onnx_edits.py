"""Edits of ONNX files: of every field that its reader has to see, and of how the same is said in other words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from faults.edits import Edit
from faults.onnx_planting import PlantedOnnx, called
from onnx import TensorProto, helper, numpy_helper

P = PlantedOnnx
Plant = Callable[[P], str | None]
W4, W8A8, W8, HALF, WHOLE = ("text", "w4"), ("image", "w8a8"), ("text", "w8"), ("text", "fp16"), ("image", "fp32")


def edited(file: Path, plant: Callable[[P], str | None], path: Path) -> str | None:
    opened = PlantedOnnx(file.read_bytes())
    named = plant(opened)
    opened.save(path)
    return named


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


def activations_cut_off(p: P) -> str:
    """Half of the range, as often as what is rounded is used."""
    for name in sorted({node.input[1] for node in p.all("QuantizeLinear")}):
        p.change(name, lambda values: values / 2)
    return called(p.find("QuantizeLinear"))


def biased_conv(p: P) -> onnx.NodeProto:
    return next(node for node in p.all("Conv") if len(node.input) > 2 and p.has(node.input[2]))


def bias_dropped(p: P) -> str:
    conv = biased_conv(p)
    del conv.input[2]
    return called(conv)


def gelus_by_tanh(p: P) -> str:
    names = [p.set(node, "approximate", "tanh") for node in p.all("Gelu")]
    return names[0]


def queries(p: P) -> onnx.NodeProto:
    """The multiplication of the queries with the root of 1 / sqrt(head dimension)."""
    scores = p.producer(p.find("Softmax").input[0])
    return p.producer(scores.input[0])


def attention_scale(p: P) -> str:
    node = queries(p)
    node.input[1] = p.add("planted_scale", p.array(node.input[1]) * 2)
    return called(node)


def outputs_scaled(p: P) -> str:
    return p.append("Mul", p.add("planted_factor", np.float32(100)))


def gain_and_shift_swapped(p: P) -> str:
    norm = p.find("LayerNormalization")
    norm.input[1], norm.input[2] = norm.input[2], norm.input[1]
    return called(norm)


def output_renamed(p: P) -> None:
    name = p.graph.output[0].name
    p.producer(name).output[0] = p.graph.output[0].name = "embedding"


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
    return "is rejected by onnx's checker"


def defined_twice(p: P) -> str:
    tensor = p.graph.initializer.add()
    tensor.CopyFrom(next(known for known in p.graph.initializer if "bias" in known.name))
    tensor.raw_data = bytes(len(tensor.raw_data))
    return "is rejected by onnx's checker"


def other_version(p: P) -> str:
    """Other definitions of all operators of the domain."""
    next(known for known in p.model.opset_import if not known.domain).version = 21
    return "opset"


def number(kind: int, dimensions: int = 1) -> Plant:
    """Another number in the first constant of a type, by far."""

    def plant(p: P) -> str:
        tensor = next(one for one in p.graph.initializer if one.data_type == kind and len(one.dims) >= dimensions)
        changed = bytearray(tensor.raw_data)
        changed[numpy_helper.to_array(tensor).itemsize - 1] ^= 0x41
        tensor.raw_data = bytes(changed)
        return called(p.users(tensor.name)[0])

    return plant


FAULTS: tuple[Edit[P], ...] = (
    Edit("half a float of a weight", number(TensorProto.FLOAT16, 2), (HALF, W4)),
    Edit("an integer of a weight", number(TensorProto.INT8, 2), (W8A8, W8)),
    Edit("two integers of a weight", number(TensorProto.UINT8, 2), (W4,)),
    Edit("a scale of a weight", lambda p: p.change(p.find("MatMulNBits").input[2], lambda one: one * 1.1), (W4,)),
    Edit("a zero point", number(TensorProto.UINT8, 0), (W8A8,)),
    Edit("a step of activations", activation_range, (W8A8,)),
    Edit("a zero point of activations", activation_zero, (W8A8,)),
    Edit("activations restored by another step", activation_restored, (W8A8,)),
    Edit("a number", attention_scale, (W4, HALF)),
    Edit("a text of an operator", gelus_by_tanh, (W4, WHOLE)),
    Edit("the version of the operators", other_version, (W4,)),
    Edit("an input that is left out", bias_dropped, (W4, HALF)),
    Edit("two inputs exchanged", gain_and_shift_swapped, (W4,)),
    Edit("an operator behind the output", outputs_scaled, (W4,)),
    Edit("the output renamed", output_renamed, (W4,)),
    Edit("an operator said anew", said_anew, (W4,)),
    Edit("numbers in another file", numbers_elsewhere, (W4,)),
    Edit("a constant said twice", defined_twice, (W4,)),
)


# What says the same in other words


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


def producer(p: P) -> None:
    p.model.producer_name, p.model.producer_version, p.model.domain, p.model.model_version = "other", "9", "a.b", 7


def metadata(p: P) -> None:
    helper.set_model_props(p.model, {"author": "somebody", "licence": "another"})


def documented(p: P) -> None:
    p.model.doc_string = p.graph.doc_string = "for people"
    for one in (*p.graph.node, *p.graph.initializer, *p.graph.input, *p.graph.output):
        one.doc_string = "for people"


def graph_renamed(p: P) -> None:
    p.graph.name = "another"


def shapes_inferred(p: P) -> None:
    p.model.CopyFrom(onnx.shape_inference.infer_shapes(p.model))
    p.graph = p.model.graph


def shapes_left_out(p: P) -> None:
    del p.graph.value_info[:]


def operations_unnamed(p: P) -> None:
    for node in p.graph.node:
        node.name = ""


def settings_reordered(p: P) -> None:
    for node in p.graph.node:
        settings = [onnx.AttributeProto.FromString(one.SerializeToString()) for one in node.attribute][::-1]
        del node.attribute[:]
        node.attribute.extend(settings)


def opsets_reordered(p: P) -> None:
    imports = [onnx.OperatorSetIdProto.FromString(one.SerializeToString()) for one in p.model.opset_import][::-1]
    del p.model.opset_import[:]
    p.model.opset_import.extend(imports)


def saved_by_onnx_ir(p: P) -> None:
    import onnx_ir

    p.model.CopyFrom(onnx_ir.to_proto(onnx_ir.from_proto(p.model)))
    p.graph = p.model.graph


def unused_constant(p: P) -> None:
    p.add("unused", np.ones(3, np.float32))


def batch_renamed(p: P) -> None:
    for value in (*p.graph.input, *p.graph.output, *p.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = f"other_{size.dim_param}"


HARMLESS: tuple[Edit[P], ...] = (
    Edit("another producer and version", producer, (W4,)),
    Edit("other metadata", metadata, (W4,)),
    Edit("texts for people", documented, (W4,)),
    Edit("another name of the graph", graph_renamed, (W4,)),
    Edit("shapes inferred", shapes_inferred, (W4,)),
    Edit("shapes left out", shapes_left_out, (W4,)),
    Edit("operations without names", operations_unnamed, (W4,)),
    Edit("settings in another order", settings_reordered, (W4,)),
    Edit("opsets in another order", opsets_reordered, (W4,)),
    Edit("saved anew by onnx_ir", saved_by_onnx_ir, (W4,)),
    Edit("a constant that nothing takes", unused_constant, (W4,)),
    Edit("another name of the batch's size", batch_renamed, (W4,)),
    Edit("values renamed", tensors_renamed, (W4, W8A8)),
    Edit("constants in another order", constants_reordered, (W4, W8A8)),
    Edit("operations in another order", operations_reordered, (W4, W8A8)),
    Edit("numbers written in other fields", numbers_as_numbers, (W4, W8A8)),
    Edit("constants as operations", constants_as_operations, (W4, W8A8)),
    Edit("defaults left out", defaults_left_out, (W4, W8A8)),
)
