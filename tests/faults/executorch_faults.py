"""The faults and the harmless edits of .pte files: each plants itself and says what the check should name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from faults.executorch_planting import ABSENT, Array, Fields, PlantedProgram

from mobileclip_deploy.targets.executorch.xnnpack_payload import DATATYPES, OUTPUT

__all__ = ["FAULTS", "HARMLESS", "Edit"]

P = PlantedProgram
IMAGE, TEXT = ("image",), ("text",)
QUANTIZED, STATIC, FLOAT = ("w8a8", "w8", "w4"), ("w8a8",), ("fp32",)
PRODUCT, DEPTHWISE = "XNNFullyConnected", "XNNDepthwiseConv2d"


@dataclass(frozen=True)
class Edit:
    """A change of a .pte, in the towers and precisions that can have it.

    `plant` gives what the check's detail must hold; None where any will do.
    """

    name: str
    plant: Callable[[PlantedProgram], str | None]
    towers: tuple[str, ...] = ("image", "text")
    precisions: tuple[str, ...] = ("fp32", "w8a8", "w8", "w4")

    def __str__(self) -> str:
        return self.name


@dataclass
class Weight:
    """The weight of a product or convolution, as it is stored."""

    p: PlantedProgram
    part: Fields
    operation: Fields

    @property
    def stored(self) -> Array:
        return self.p.numbers(self.part, self.operation["filter_id"])

    @property
    def datatype(self) -> str:
        return DATATYPES[self.p.held(self.part, self.operation["filter_id"])["datatype"]]

    def edit(self, change: Callable[[Array], Any]) -> None:
        """Give the numbers (of four bits: from -8 to 7) to a function that changes them in place."""
        stored = self.stored
        if self.datatype not in ("qbint4", "qcint4"):
            change(stored)
            return
        numbers = np.stack((stored & 15, stored >> 4), axis=-1).reshape(len(stored), -1).astype(np.int8) - 8
        change(numbers)
        raw = (numbers + 8).astype(np.uint8)
        stored[...] = raw[:, ::2] | raw[:, 1::2] << 4

    def scale(self, channel: slice, factor: float) -> None:
        """Scale output channels: their scales, or the numbers where there are none."""
        quantization = self.p.quantization(self.part, self.operation["filter_id"])
        if quantization is None:
            self.stored[channel] *= factor
            return
        scales = self.p.scales(self.part, self.operation["filter_id"])
        rows = scales.reshape(self.stored.shape[0], -1) if quantization[0] == "PerGroup" else scales
        if scales.dtype == np.uint16:
            wide = (rows[channel].astype(np.uint32) << 16).view(np.float32) * np.float32(factor)
            rows[channel] = (wide.view(np.uint32) + 0x8000) >> 16
        else:
            rows[channel] *= np.float32(factor)


def weights(p: P, *kinds: str) -> list[Weight]:
    """Weights of operations of some types: those that stand in the file and are no mask of zeros and ones."""
    found = []
    for part, operation in p.operations(*(kinds or (PRODUCT, "XNNConv2d"))):
        tensor = p.held(part, operation["filter_id"])
        if tensor["constant_buffer_idx"] and not operation["flags"]:
            found.append(Weight(p, part, operation))
    return found


def one(p: P) -> Weight:
    """A product in the middle of the tower."""
    found = weights(p, PRODUCT)
    return found[len(found) // 2]


def edited(change: Callable[[Array], Any], *kinds: str) -> Callable[[P], str]:
    def plant(p: P) -> str:
        weight = weights(p, *kinds)[1] if kinds else one(p)
        weight.edit(change)
        return kinds[0] if kinds else PRODUCT

    return plant


def scaled(factor: float, channels: slice = slice(0, 1)) -> Callable[[P], str]:
    def plant(p: P) -> str:
        one(p).scale(channels, factor)
        return PRODUCT

    return plant


def zeroed(numbers: Array) -> None:
    numbers[0] = 0


def swap_channels(numbers: Array) -> None:
    numbers[[0, 1]] = numbers[[1, 0]]


def flip_sign(numbers: Array) -> None:
    place = np.unravel_index(np.abs(np.clip(numbers, -7, 7)).argmax(), numbers.shape)
    numbers[place] = -numbers[place]


def change_one(numbers: Array) -> None:
    if numbers.dtype == np.float32:
        numbers.reshape(-1)[7] *= 1.1
    else:
        numbers.reshape(-1)[7] += -1 if numbers.reshape(-1)[7] > 0 else 1


def coarser(numbers: Array) -> None:
    """Rounded again to fifteen steps, or to five where there were fifteen."""
    step = np.abs(numbers).max() / (7 if numbers.dtype == np.float32 or np.abs(numbers).max() > 7 else 2)
    numbers[...] = np.round(numbers / step) * step


def noise(p: P) -> str:
    """Changes a weight by a share of 1e-5, where the file can hold so little. A bfloat16 scale cannot."""
    weight = one(p)
    if weight.datatype == "qbint4":
        table_scales(p)[...] *= np.float32(1 + 1e-5)
        return "aten::embedding"
    weight.scale(slice(None), 1 + 1e-5)
    return PRODUCT


def same_shaped(p: P) -> tuple[Weight, Weight]:
    seen: dict[tuple[int, ...], Weight] = {}
    for weight in weights(p):
        other = seen.setdefault(weight.stored.shape, weight)
        if other is not weight:
            return other, weight
    raise LookupError("no two weights have one shape")


def layers_swapped(p: P) -> str:
    first, second = same_shaped(p)
    a, b = first.stored, second.stored
    a[...], b[...] = b.copy(), a.copy()
    return "its filter"


def weight_of_another_layer(p: P) -> str:
    first, second = same_shaped(p)
    first.stored[...] = second.stored
    return "its filter"


def transposed(p: P) -> str:
    def change(numbers: Array) -> None:
        numbers[...] = numbers.copy().swapaxes(0, -1)

    next(weight for weight in weights(p) if _square(weight)).edit(change)
    return "its filter"


def _square(weight: Weight) -> bool:
    dims = weight.p.held(weight.part, weight.operation["filter_id"])["dims"]
    return bool(dims[0] == dims[-1])


def queries_and_keys_swapped(p: P) -> str:
    weight = next(
        w for w in weights(p, PRODUCT) if len(w.stored) == 3 * w.p.held(w.part, w.operation["filter_id"])["dims"][1]
    )

    def change(numbers: Array) -> None:
        third = len(numbers) // 3
        numbers[: 2 * third] = np.concatenate([numbers[third : 2 * third], numbers[:third]])

    weight.edit(change)
    return PRODUCT


def bias_dropped(p: P) -> str:
    one(p).operation["bias_id"] = ABSENT
    return "its bias is left out"


def bias_scaled(p: P) -> str:
    weight = one(p)
    bias = p.numbers(weight.part, weight.operation["bias_id"])
    bias[...] = (bias * 1.5).astype(bias.dtype)
    return "its bias"


def first_bias_moved(p: P) -> str:
    """As a mean that is subtracted from the pixels would, where it is folded into the first convolution."""
    weight = weights(p, "XNNConv2d")[0]
    bias = p.numbers(weight.part, weight.operation["bias_id"])
    bias += np.array(0.1 if bias.dtype == np.float32 else 50, bias.dtype)
    return "XNNConv2d"


def channels_reversed(p: P) -> str:
    stored = weights(p, "XNNConv2d")[0].stored
    stored[...] = stored[..., ::-1].copy()
    return "XNNConv2d"


def kernel_flipped(p: P) -> str:
    stored = weights(p, DEPTHWISE)[0].stored
    stored[...] = stored[:, :, ::-1].copy()
    return DEPTHWISE


def not_a_number(p: P) -> str:
    one(p).stored.reshape(-1)[7] = np.nan
    return PRODUCT


def zero_point_moved(p: P) -> str:
    quantized(p)[0]["zero_point"] += 1
    return "zero point"


def range_changed(p: P) -> str:
    quantized(p)[0]["scale"] *= 1.1
    return "output scale"


def quantized(p: P) -> list[Fields]:
    """How the results of products are quantized, where they are."""
    given = (p.quantization(part, operation["output_id"]) for part, operation in p.operations(PRODUCT, "XNNConv2d"))
    return [how[1] for how in given if how is not None]


def measured_otherwise(p: P) -> str:
    for part in p.parts:
        for entry in part["xvalues"]:
            kind, fields = entry["value"]
            if kind == "Quantized" and fields["quantization"][0] == "PerToken":
                fields["quantization"][1]["num_nonbatch_dims"] += 1
                return "measured over 2"
    raise LookupError("nothing is measured at run time")


# The table of words and the positions


def table(p: P) -> Array:
    call = p.kernels("aten::embedding")[0]
    return p.constant(call["args"][0])


def table_scales(p: P) -> Array:
    return p.constant(p.kernels("aten::embedding")[1]["args"][0])


def words_swapped(p: P) -> str:
    table(p)[[40000, 40001]] = table(p)[[40001, 40000]]
    return "argument 0"


def words_overwritten(p: P) -> str:
    table(p)[40000:40010] = table(p)[39000]
    return "argument 0"


def table_shifted(p: P) -> str:
    table(p)[...] = np.roll(table(p), 1, axis=0)
    return "argument 0"


def row_scales_doubled(p: P) -> str:
    table_scales(p)[...] *= 2
    return "argument 0"


def positions_shifted(p: P) -> str:
    tensor = next(
        index
        for index, entry in enumerate(p.plan["values"])
        if entry["value"][0] == "Tensor"
        and entry["value"][1]["sizes"] == (77, 96)
        and entry["value"][1]["data_buffer_idx"]
    )
    p.constant(tensor)[...] = np.roll(p.constant(tensor), 1, axis=0)
    return "XNNPACK input"


# Operations and what flows between them


def nodes(p: P, kind: str) -> Iterator[tuple[Fields, Fields]]:
    for part in p.parts:
        for node in part["xnodes"]:
            if node["operation"][0] == kind:
                yield part, node


def retyped(old: str, new: str) -> Callable[[P], str]:
    def plant(p: P) -> str:
        _, node = next(nodes(p, old))
        node["operation"] = (new, node["operation"][1])
        return new

    return plant


def one_input_kept(which: str) -> Callable[[P], None]:
    """An addition that gives one of its two inputs."""

    def plant(p: P) -> None:
        _, node = list(nodes(p, "XNNAdd"))[-1]
        given = node["operation"][1]
        copied = {"input_id": given[which], "output_id": given["output_id"], "flags": 0}
        node["operation"] = ("XNNCopy", copied)

    return plant


def setting(kind: str, index: int = 0, **changed: Any) -> Callable[[P], str]:
    def plant(p: P) -> str:
        _, node = list(nodes(p, kind))[index]
        assert any(node["operation"][1][name] != value for name, value in changed.items())
        node["operation"][1].update(changed)
        return kind

    return plant


def bounded(p: P) -> str:
    """A ReLU fused into a product."""
    _, node = list(nodes(p, PRODUCT))[-1]
    node["range"] = {"low": 0.0, "high": float("inf")}
    return "range is '0 to inf'"


def added_value(part: Fields, like: int, **more: Any) -> int:
    """A value of a part's own, of the type and shape of another."""
    number = 1 + max(_tensor(entry)["id_out"] for entry in part["xvalues"])
    entry = next(entry for entry in part["xvalues"] if _tensor(entry)["id_out"] == like)
    kind, fields = entry["value"]
    tensor = _tensor(entry) | {"id_out": number, "external_id": ABSENT, "flags": 0} | more
    part["xvalues"] = (
        *part["xvalues"],
        {"value": (kind, tensor if kind == "Tensor" else fields | {"tensor": tensor})},
    )
    return number


def _tensor(entry: Fields) -> Fields:
    kind, fields = entry["value"]
    found: Fields = fields if kind == "Tensor" else fields["tensor"]
    return found


def added_constant(p: P, part: Fields, numbers: Array) -> int:
    """A float32 constant of a part's own."""
    key = f"planted_{len(p.named)}"
    p.named[key] = bytearray(numbers.astype(np.float32).tobytes())
    part["constant_data"] = (*part["constant_data"], {"offset": 2**64 - 1, "size": numbers.nbytes, "named_key": key})
    number = 1 + max(_tensor(entry)["id_out"] for entry in part["xvalues"])
    fields = {
        "datatype": DATATYPES.index("fp32"),
        "num_dims": numbers.ndim,
        "dims": numbers.shape,
        "constant_buffer_idx": len(part["constant_data"]) - 1,
        "external_id": ABSENT,
        "flags": 0,
        "id_out": number,
    }
    part["xvalues"] = (*part["xvalues"], {"value": ("Tensor", fields)})
    return number


def insert(part: Fields, at: int, kind: str, **fields: Any) -> None:
    node = {"operation": (kind, {"flags": 0} | fields), "debug_handle": 0, "range": None}
    part["xnodes"] = (*part["xnodes"][:at], node, *part["xnodes"][at:])


def place(part: Fields, kind: str) -> int:
    return next(i for i, node in enumerate(part["xnodes"]) if node["operation"][0] == kind)


def gelu_by_tanh(p: P) -> str:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    part, node = next(nodes(p, "XNNGelu"))
    x, result = node["operation"][1]["input_id"], node["operation"][1]["output_id"]
    at = place(part, "XNNGelu")
    part["xnodes"] = (*part["xnodes"][:at], *part["xnodes"][at + 1 :])
    cubic, root, half, unit = (added_constant(p, part, np.full(1, n)) for n in (0.044715, (2 / np.pi) ** 0.5, 0.5, 1))
    a, b, c, d, e, f, g, h = (added_value(part, result) for _ in range(8))
    steps = (
        *(("XNNMultiply", x, x, a), ("XNNMultiply", a, x, b), ("XNNMultiply", b, cubic, c), ("XNNAdd", x, c, d)),
        *(("XNNMultiply", d, root, e), ("XNNTanh", e, None, f), ("XNNAdd", f, unit, g), ("XNNMultiply", x, half, h)),
        ("XNNMultiply", g, h, result),
    )
    for number, (kind, first, second, output) in enumerate(steps):
        given = {"input_id": first} if second is None else {"input1_id": first, "input2_id": second}
        insert(part, at + number, kind, **given, output_id=output)
    return "XNNGelu"


def softmax_axis(p: P) -> str:
    """Transposed before and after: over the queries instead of the keys."""
    part, node = next(nodes(p, "XNNSoftmax"))
    given = node["operation"][1]
    before, after = added_value(part, given["input_id"]), added_value(part, given["output_id"])
    at = place(part, "XNNSoftmax")
    swap = {"num_dims": 3, "perm": (0, 2, 1)}
    insert(part, at + 1, "XNNStaticTranspose", **swap, input_id=after, output_id=given["output_id"])
    insert(part, at, "XNNStaticTranspose", **swap, input_id=given["input_id"], output_id=before)
    given |= {"input_id": before, "output_id": after}
    return "XNNSoftmax"


def causal(p: P) -> str:
    """A mask added to the logits, as another variant's text tower has."""
    part, node = next(nodes(p, "XNNSoftmax"))
    given = node["operation"][1]
    length = p.held(part, given["input_id"])["dims"][-1]
    mask = added_constant(p, part, np.triu(np.full((1, length, length), -1e9, np.float32), 1))
    masked = added_value(part, given["input_id"])
    insert(part, place(part, "XNNSoftmax"), "XNNAdd", input1_id=given["input_id"], input2_id=mask, output_id=masked)
    given["input_id"] = masked
    return "XNNAdd"


def outputs_times_100(p: P) -> str:
    """What cosine does not see."""
    part = p.parts[-1]
    entry = next(entry for entry in part["xvalues"] if _tensor(entry)["flags"] == OUTPUT)
    output = _tensor(entry)["id_out"]
    _, last = next((part, node) for node in part["xnodes"] if node["operation"][1].get("output_id") == output)
    before = added_value(part, output)
    last["operation"][1]["output_id"] = before
    hundred = added_constant(p, part, np.full(1, 100, np.float32))
    insert(part, len(part["xnodes"]), "XNNMultiply", input1_id=before, input2_id=hundred, output_id=output)
    return "XNNMultiply"


def outputs_normalised(p: P) -> str:
    """The embedding divided by its length: [1, D] times itself, transposed, is its square."""
    part = p.parts[-1]
    entry = next(entry for entry in part["xvalues"] if _tensor(entry)["flags"] == OUTPUT)
    output = _tensor(entry)["id_out"]
    width = _tensor(entry)["dims"][1]
    _, last = next((part, node) for node in part["xnodes"] if node["operation"][1].get("output_id") == output)
    before = added_value(part, output)
    last["operation"][1]["output_id"] = before
    column = added_value(part, output, dims=(width, 1))
    square, scale = (added_value(part, output, dims=(1, 1)) for _ in range(2))
    end = len(part["xnodes"])
    insert(part, end, "XNNStaticTranspose", num_dims=2, perm=(1, 0), input_id=before, output_id=column)
    insert(part, end + 1, "XNNBatchMatrixMultiply", input1_id=before, input2_id=column, output_id=square)
    insert(part, end + 2, "XNNReciprocalSquareRoot", input_id=square, output_id=scale)
    insert(part, end + 3, "XNNMultiply", input1_id=before, input2_id=scale, output_id=output)
    return "XNN"


def output_of_another_node(p: P) -> str:
    """The pointwise function before a product is passed by."""
    part, node = next(nodes(p, "XNNGelu"))
    given = node["operation"][1]
    user = next(
        other["operation"][1]
        for other in part["xnodes"]
        if given["output_id"] in (other["operation"][1].get("input_id"), other["operation"][1].get("input1_id"))
    )
    user["input_id" if user.get("input_id") == given["output_id"] else "input1_id"] = given["input_id"]
    return "in a conversion"


def keys_are_queries(p: P) -> str:
    _, node = list(nodes(p, "XNNStaticSlice"))[1]
    node["operation"][1]["offsets"] = (0, 0, 0)
    return "XNNStaticSlice"


def heads_not_transposed(p: P) -> str:
    _, node = next(
        (part, node) for part, node in nodes(p, "XNNStaticTranspose") if node["operation"][1]["perm"] == (0, 2, 1, 3)
    )
    node["operation"][1]["perm"] = (0, 1, 2, 3)
    return "perm is [0, 1, 2, 3]"


def scale_of_attention(p: P) -> str:
    """The factor of the queries: a constant of the program that is an argument of the part."""
    constant_argument(p, shape=())[...] = 1
    return "XNNPACK input"


def halves_swapped(p: P) -> str:
    """Swaps the halves of a convolution that doubles the channels. Every other channel is a convolution of its own."""
    _, node = next(nodes(p, "XNNConcatenate2"))
    given = node["operation"][1]
    given["input1_id"], given["input2_id"] = given["input2_id"], given["input1_id"]
    return "XNNDepthwiseConv2d"


def constant_argument(p: P, shape: tuple[int, ...]) -> Array:
    """The first constant of a shape that a part takes from the program."""
    found = (value for value, tensor in arguments(p) if tensor["data_buffer_idx"] and tensor["sizes"] == shape)
    return p.constant(next(found))


def arguments(p: P) -> Iterator[tuple[int, Fields]]:
    """What parts take from the program and give back: values by their numbers."""
    for entry in p.plan["chains"][0]["instructions"]:
        if entry["call"][0] == "DelegateCall":
            yield from ((value, p.tensor(value)) for value in entry["call"][1]["args"])


# Kernels outside of the parts


def epsilon(p: P) -> str:
    p.value(p.kernels("aten::native_layer_norm")[0]["args"][4])["value"] = 1e-3
    return "aten::native_layer_norm.out"


def gain_and_shift_swapped(p: P) -> str:
    call = p.kernels("aten::native_layer_norm")[0]
    first, second, gain, shift, *rest = call["args"]
    call["args"] = (first, second, shift, gain, *rest)
    return "aten::native_layer_norm.out"


def last_norm_dropped(p: P) -> str:
    call = p.kernels("aten::native_layer_norm")[-1]
    taken, result = call["args"][0], call["args"][5]
    chain = p.plan["chains"][0]
    chain["instructions"] = tuple(entry for entry in chain["instructions"] if entry["call"][1] is not call)
    projection = chain["instructions"][-1]["call"][1]
    # Its result lay where the norm's input was no longer needed.
    (output,) = p.plan["outputs"]
    p.value(output)["allocation"] = fresh_place(p)
    projection["args"] = tuple(taken if value == result else value for value in projection["args"])
    return "is aten::native_layer_norm.out"


def end_of_text(number: int) -> Callable[[P], str]:
    def plant(p: P) -> str:
        p.value(p.kernels("aten::eq")[0]["args"][1])["value"] = number
        return "aten::eq.Scalar_out"

    return plant


def fresh_place(p: P) -> Fields:
    start = p.plan["buffer_sizes"][1]
    p.plan["buffer_sizes"] = (0, start + 4096)
    return {"memory": 1, "low": start, "high": 0}


def added(p: P, kind: str, like: int | None = None, **fields: Any) -> int:
    """A value of the program; a tensor lies behind all others in memory."""
    given = dict(p.value(like)) if like is not None else {}
    if kind == "Tensor":
        given["allocation"] = fresh_place(p)
    p.plan["values"] = (*p.plan["values"], {"value": (kind, given | fields)})
    return len(p.plan["values"]) - 1


def call(p: P, at: int, name: str, overload: str, *args: int) -> None:
    """Put a kernel's call before instruction `at`."""
    p.plan["operators"] = (*p.plan["operators"], {"name": name, "overload": overload})
    entry = {"call": ("KernelCall", {"index": len(p.plan["operators"]) - 1, "args": args})}
    chain = p.plan["chains"][0]
    chain["instructions"] = (*chain["instructions"][:at], entry, *chain["instructions"][at:])


def rare_token(p: P) -> str:
    """`where(ids == 12345, 0, ids)` before the words are looked up: no prompt at hand holds that token."""
    (ids,) = p.plan["inputs"]
    users = p.kernels("aten::embedding")
    found, other = added(p, "Tensor", ids, scalar_type=11), added(p, "Tensor", ids)
    zero = added(p, "Tensor", ids)
    call(p, 0, "aten::where", "self_out", found, zero, ids, other, other)
    call(p, 0, "aten::eq", "Scalar_out", ids, added(p, "Int", value=12345), found, found)
    call(p, 0, "aten::zeros_like", "out", ids, zero, zero)
    for user in users:
        user["args"] = tuple(other if value == ids else value for value in user["args"])
        for value in user["args"]:
            if "items" in p.value(value) and ids in p.value(value)["items"]:
                p.value(value)["items"] = (other,)
    return "aten::"


def written_over(p: P) -> str:
    """A kernel more, whose result nothing reads: it lies where another's result is still needed."""
    (ids,) = p.plan["inputs"]
    first = p.kernels("aten::eq")[0]
    call(p, 2, "aten::eq", "Scalar_out", ids, added(p, "Int", value=5), first["args"][2], first["args"][2])
    return "aten::eq.Scalar_out"


def memory_shared(p: P) -> str:
    """Two results that are needed at the same time, at one place."""
    first, second = p.kernels("aten::native_layer_norm")[0], p.plan["inputs"][0]
    p.value(first["args"][5])["allocation"] = dict(p.value(first["args"][0])["allocation"])
    assert second != first["args"][0]
    return "writes over what it reads"


def another_method(p: P) -> str:
    p.fields["plans"] = (p.plan, p.plan | {"name": "backward"})
    return "its methods are forward, backward"


def jump(p: P) -> str:
    chain = p.plan["chains"][0]
    over = {"call": ("JumpFalseCall", {"cond_value_index": 0, "destination_instruction": 3})}
    chain["instructions"] = (over, *chain["instructions"])
    return "JumpFalseCall"


def state(p: P) -> str:
    next(tensor for _, tensor in arguments(p) if tensor["data_buffer_idx"])["allocation"] = fresh_place(p)
    return "is state"


def data_missing(p: P) -> str:
    name = next(entry["named_key"] for entry in p.parts[0]["constant_data"] if entry["named_key"])
    del p.named[name]
    return f"no data called {name}"


FAULTS = (
    Edit("a channel scaled by 1.03", scaled(1.03)),
    Edit("a channel scaled by 1.5", scaled(1.5)),
    Edit("a channel zeroed", edited(zeroed)),
    Edit("two channels swapped", edited(swap_channels)),
    Edit("two channels of a convolution swapped", edited(swap_channels, "XNNConv2d"), IMAGE),
    Edit("two layers' weights swapped", layers_swapped),
    Edit("a weight of another layer", weight_of_another_layer),
    Edit("a weight transposed", transposed),
    Edit("queries and keys swapped", queries_and_keys_swapped),
    Edit("one sign flipped", edited(flip_sign)),
    Edit("one number changed", edited(change_one)),
    Edit("noise of 1e-5 on a weight", noise, precisions=("fp32", "w8a8", "w8")),
    Edit("noise of 1e-5 on the table's scales", noise, TEXT, ("w4",)),
    Edit("one NaN weight", not_a_number, precisions=FLOAT),
    Edit("a layer rounded again, coarser", edited(coarser)),
    Edit("all scales of a layer doubled", scaled(2, slice(None)), precisions=QUANTIZED),
    Edit("a bias dropped", bias_dropped),
    Edit("a bias scaled", bias_scaled),
    Edit("a mean moved", first_bias_moved, IMAGE),
    Edit("channels in BGR order", channels_reversed, IMAGE),
    Edit("a kernel flipped", kernel_flipped),
    Edit("a zero point moved", zero_point_moved, precisions=STATIC),
    Edit("an activation's range changed", range_changed, precisions=STATIC),
    Edit("activations measured over other dimensions", measured_otherwise, TEXT, ("w8", "w4")),
    Edit("words that no prompt holds swapped", words_swapped, TEXT),
    Edit("words that no prompt holds overwritten", words_overwritten, TEXT),
    Edit("the table of words shifted", table_shifted, TEXT),
    Edit("the table's scales doubled", row_scales_doubled, TEXT, QUANTIZED),
    Edit("position table shifted", positions_shifted, TEXT),
    Edit("tanh-GELU for exact GELU", gelu_by_tanh),
    Edit("hard swish for GELU", retyped("XNNGelu", "XNNHardswish")),
    Edit("tanh for sigmoid in squeeze-excite", retyped("XNNSigmoid", "XNNTanh"), IMAGE),
    Edit("subtraction for addition", retyped("XNNAdd", "XNNSubtract")),
    Edit("a residual dropped", one_input_kept("input2_id")),
    Edit("a branch dropped", one_input_kept("input1_id")),
    Edit("a ReLU fused", bounded),
    Edit("padding on one side", setting(DEPTHWISE, padding_left=0)),
    Edit("a stride changed", setting(DEPTHWISE, subsampling_width=4)),
    Edit("a dilation changed", setting(DEPTHWISE, dilation_width=2)),
    Edit("softmax over another axis", softmax_axis),
    Edit("a causal mask", causal),
    Edit("outputs times 100", outputs_times_100),
    Edit("outputs normalised", outputs_normalised),
    Edit("an operation passed by", output_of_another_node),
    Edit("keys are the queries", keys_are_queries),
    Edit("heads not transposed", heads_not_transposed),
    Edit("attention not scaled", scale_of_attention),
    Edit("halves of a convolution swapped", halves_swapped, IMAGE),
    Edit("LayerNorm's epsilon", epsilon, TEXT),
    Edit("LayerNorm's gain and shift swapped", gain_and_shift_swapped, TEXT),
    Edit("the last LayerNorm dropped", last_norm_dropped, TEXT),
    Edit("a wrong end-of-text id", end_of_text(49406), TEXT),
    Edit("pooled at the last token", end_of_text(0), TEXT),
    Edit("a branch that a rare token triggers", rare_token, TEXT),
    Edit("a result written over", written_over, TEXT),
    Edit("memory of two results shared", memory_shared, TEXT),
    Edit("another method", another_method, IMAGE, FLOAT),
    Edit("a jump", jump, TEXT, FLOAT),
    Edit("state", state, IMAGE, FLOAT),
    Edit("data missing", data_missing, IMAGE, FLOAT),
)


# What says the same in other words


def encoded_anew(p: P) -> None:
    """`save` does it: other offsets, another order of fields, defaults written out."""


def constants_reordered(p: P) -> None:
    p.named = dict(reversed(p.named.items()))
    count = len(p.constants)
    p.constants = [p.constants[0], *reversed(p.constants[1:])]  # the first is that of values without a constant
    for entry in p.plan["values"]:
        kind, fields = entry["value"]
        if kind == "Tensor" and fields["data_buffer_idx"]:
            fields["data_buffer_idx"] = count - fields["data_buffer_idx"]


def constants_renamed(p: P) -> None:
    p.alone()


def padded(p: P) -> None:
    p.spare = 3


def unused_added(p: P) -> None:
    p.constants.append(bytearray(range(64)))
    p.named["nobody"] = bytearray(range(64))
    added(p, "Int", value=7)
    p.plan["operators"] = (*p.plan["operators"], {"name": "aten::add", "overload": "out"})


def debug_text_changed(p: P) -> None:
    p.plan["containers"] = {"inputs": "one", "outputs": "another"}
    for part in p.parts:
        part["version"] = "another"
        for node in part["xnodes"]:
            node["debug_handle"] += 1000
    frames = {"items": ({"filename": "here.py", "lineno": 3, "name": "forward", "context": "x"},)}
    p.plan["chains"][0]["stacktrace"] = (frames,) * len(p.plan["chains"][0]["instructions"])


def values_renumbered(p: P) -> None:
    """Numbers of a part's values, and the order in which they stand."""
    for part in p.parts:
        numbers = {_tensor(entry)["id_out"]: 1000 - _tensor(entry)["id_out"] for entry in part["xvalues"]}
        for entry in part["xvalues"]:
            _tensor(entry)["id_out"] = numbers[_tensor(entry)["id_out"]]
        for node in part["xnodes"]:
            fields = node["operation"][1]
            fields |= {n: numbers[v] for n, v in fields.items() if n.endswith("_id") and v != ABSENT}
        part["xvalues"] = tuple(reversed(part["xvalues"]))
        part["input_ids"] = tuple(numbers[value] for value in part["input_ids"])
        part["output_ids"] = tuple(numbers[value] for value in part["output_ids"])


def operations_reordered(p: P) -> None:
    """Two neighbours of which neither needs the other."""
    for part in p.parts:
        for at, (a, b) in enumerate(zip(part["xnodes"], part["xnodes"][1:], strict=False)):
            result = a["operation"][1]["output_id"]
            if all(v != result for n, v in b["operation"][1].items() if n.endswith("_id")):
                part["xnodes"] = (*part["xnodes"][:at], b, a, *part["xnodes"][at + 2 :])
                return
    raise LookupError("every operation needs the one before it")


def operators_reordered(p: P) -> None:
    count = len(p.plan["operators"])
    p.plan["operators"] = tuple(reversed(p.plan["operators"]))
    for entry in p.plan["chains"][0]["instructions"]:
        if entry["call"][0] == "KernelCall":
            entry["call"][1]["index"] = count - 1 - entry["call"][1]["index"]


HARMLESS = (
    Edit("encoded anew", encoded_anew),
    Edit("constants in another order", constants_reordered),
    Edit("constants renamed", constants_renamed),
    Edit("more bytes between constants", padded),
    Edit("what nothing uses added", unused_added),
    Edit("texts for debugging changed", debug_text_changed),
    Edit("values renumbered", values_renumbered),
    Edit("operations in another valid order", operations_reordered),
    Edit("operators in another order", operators_reordered),
)
