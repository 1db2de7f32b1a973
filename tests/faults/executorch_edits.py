"""Edits of .pte files: of every field that the reader has to see, and of how the same is said in other words."""

import pickle
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from faults.edits import Edit
from faults.executorch_planting import ABSENT, Fields, PlantedProgram, tensor_of

P = PlantedProgram
Plant = Callable[[P], str | None]
STATIC, FOUR, EIGHT, WHOLE = ("image", "w8a8"), ("text", "w4"), ("text", "w8"), ("text", "fp32")
PRODUCT, DEPTHWISE = "XNNFullyConnected", "XNNDepthwiseConv2d"


def edited(file: Path, plant: Plant, path: Path) -> str | None:
    program: PlantedProgram = pickle.loads(taken_apart(file))
    named = plant(program)
    program.save(path)
    return named


@cache
def taken_apart(file: Path) -> bytes:
    """A program with its constants apart, read once, to be copied for each edit."""
    program = PlantedProgram(file)
    program.alone()
    return pickle.dumps(program)


def spoil(data: bytearray) -> None:
    """Another number, by far: a float's or an integer's high byte, or an integer of eight bits or two of four."""
    data[3] ^= 0x41


def weighted(p: P, *kinds: str) -> tuple[Fields, Fields]:
    """The last product, or operation of other types, whose weight stands in the file, and the part that it is in."""
    found = p.operations(*(kinds or (PRODUCT,)))
    return [one for one in found if p.held(one[0], one[1]["filter_id"])["constant_buffer_idx"]][-1]


def number(name: str, scales: bool = False, *kinds: str) -> Plant:
    """One of an operation's constant, or of the scales that it is restored by."""

    def plant(p: P) -> str:
        part, operation = weighted(p, *kinds)
        spoil(p.data(part, operation[name], scales))
        return f"its {name.removesuffix('_id')}"

    return plant


def bias_dropped(p: P) -> str:
    _, operation = next(one for one in p.operations(PRODUCT) if one[1]["bias_id"] != ABSENT)
    operation["bias_id"] = ABSENT
    return "its bias is left out"


def word(call: int) -> Plant:
    def plant(p: P) -> str:
        spoil(p.constants[p.value(p.kernels("aten::embedding")[call]["args"][0])["data_buffer_idx"]])
        return "argument 0"

    return plant


def argument(p: P) -> str:
    """A number that parts take from the program."""
    spoil(p.constants[next(tensor for _, tensor in arguments(p) if tensor["data_buffer_idx"])["data_buffer_idx"]])
    return "XNNPACK input"


def arguments(p: P) -> Iterator[tuple[int, Fields]]:
    """What parts take from the program and give back: values by their numbers."""
    for entry in p.plan["chains"][0]["instructions"]:
        if entry["call"][0] == "DelegateCall":
            yield from ((value, p.value(value)) for value in entry["call"][1]["args"])


def gain_and_shift_swapped(p: P) -> str:
    call = p.kernels("aten::native_layer_norm")[0]
    first, second, gain, shift, *rest = call["args"]
    call["args"] = (first, second, shift, gain, *rest)
    return "aten::native_layer_norm.out"


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
    return "overwrites its own"


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
    return f"no data named {name}"


FAULTS: tuple[Edit[P], ...] = (
    Edit("a number of a weight", number("filter_id"), (STATIC, FOUR, EIGHT, WHOLE)),
    Edit("a scale of a weight", number("filter_id", True), (STATIC, FOUR, EIGHT)),
    Edit("a bias that is left out", bias_dropped, (STATIC, FOUR, WHOLE)),
    Edit("a word", word(0), (FOUR, EIGHT, WHOLE)),
    Edit("a scale of a word", word(1), (FOUR, EIGHT)),
    Edit("a number of the program", argument, (FOUR, WHOLE)),
    Edit("inputs of a kernel exchanged", gain_and_shift_swapped, (FOUR,)),
    Edit("a result written over", written_over, (FOUR,)),
    Edit("memory of two results shared", memory_shared, (FOUR,)),
    Edit("another method", another_method, (STATIC,)),
    Edit("a jump", jump, (FOUR,)),
    Edit("state", state, (FOUR,)),
    Edit("data missing", data_missing, (STATIC,)),
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
        tensors = [tensor_of(*entry["value"]) for entry in part["xvalues"]]
        numbers = {tensor["id_out"]: 1000 - tensor["id_out"] for tensor in tensors}
        for tensor in tensors:
            tensor["id_out"] = numbers[tensor["id_out"]]
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


HARMLESS: tuple[Edit[P], ...] = (
    Edit("encoded anew", encoded_anew, (STATIC, FOUR)),
    Edit("constants in another order", constants_reordered, (STATIC, FOUR)),
    Edit("texts for debugging changed", debug_text_changed, (STATIC, FOUR)),
    Edit("values renumbered", values_renumbered, (STATIC, FOUR)),
    Edit("operations in another valid order", operations_reordered, (STATIC, FOUR)),
)
