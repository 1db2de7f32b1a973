"""The kinds of faults: what goes wrong in conversions, folding, compression and by hand, planted in a `Graph`.

A kind is defined once and planted in the graphs of all targets that can have it: whatever the format, the comparison
has to find it. That a format's reader sees what is edited in a file, test_reading.py shows.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from faults.graphs import Array, PlantedGraph, by_target

from mobileclip_deploy.targets.graph import Constant, Node, Wire

P = PlantedGraph
Plant = Callable[[P], str | None]
# Which files may have a kind, as patterns of `tower:precision`: all of a kind's must be found.
FILES_OF = by_target("""
files          onnx                  coreml                          coreai  litert      executorch
everywhere     *                     *                               *       *           *
image          image*                image*                          image*  image*      image*
text           text*                 text*                           text*   text*       text*
integers       *:w*                  *:w*                            *:w*    *:w*        *:w*
tables         -                     *:w?p*                          *:w?p   -           -
zeros          image:w8a8            *:w*-iOS16 *:w*-iOS17           *:w*    *:w*        -
offsets        -                     -                               *:w*    -           -
in order       *                     *:fp* *:w8* *:w4-* *:w4p-iOS18  *       *           *
in parts       *                     *-iOS16 *-iOS17                 *       *           *
quantized      image:w8a8            *:w8a8*                         -       *:w8a8      *:w8a8
restored       image:w8a8            *:w8a8*                         -       -           -
results        -                     -                               -       image:w8a8  image:w8a8
biases         image:w8a8            -                               -       image:w8a8  image:w8a8
measured       -                     -                               -       -           text:w[48]
scaled         *                     image*                          *       image*      -
padded         *                     *                               *       image*      *
means          image*                image*                          *       *           image*
rectified      image*                image*                          image*  -           -
axes           image*                image*                          image*  image*      -
dimensions     image*                image*                          -       image*      -
joined         image*                -                               -       image*      image*
norms          text*                 text*                           -       -           text*
bounds         text*                 text*                           text*   text*       -
roots          -                     -                               text*   text*       -
squares        -                     -                               -       text*       -
turned         -                     text*                           -       text*       -
projected      image* *:fp* *:w[48]  -                               -       -           -
Core AI        -                     -                               *       -           -
Core AI text   -                     -                               text*   -           -
Core ML        -                     *                               -       -           -
Core ML image  -                     image*                          -       -           -
""")
RECTIFIED = ("range", "0 to inf")


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `plant` gives the operation that must be named; None where which one is depends on the order.

    `files`: a row of `FILES_OF`. `targets`: those of them that have it; None for all.
    """

    name: str
    plant: Plant
    files: str = "everywhere"
    targets: Collection[str] | None = None

    def __str__(self) -> str:
        return self.name

    def stands_in(self, target: str, tower: str, precision: str) -> bool:
        """Whether a file can have it."""
        patterns = FILES_OF[self.files].get(target, "").split()
        known = self.targets is None or target in self.targets
        return known and any(fnmatchcase(f"{tower}:{precision}", pattern) for pattern in patterns)


# Numbers


def large(values: Array) -> bool:
    """A weight: of a layer, whatever it is stored as."""
    return values.size > 64 and (values.ndim > 1 or values.dtype == np.uint8)


def weights(p: P) -> list[tuple[int, str]]:
    """Where weights stand, but the mask of zeros and ones: those that are stored as integers first."""
    found = p.places("weight", lambda one: large(one) and not (is_square(one) and {*np.unique(one)} == {0, 1}))
    return sorted(found, key=lambda place: p.array(*place).dtype.kind == "f")


def is_square(values: Array) -> bool:
    return values.ndim == 2 and values.shape[0] == values.shape[1]


def one(p: P) -> tuple[int, str]:
    """A weight in the middle of the tower, of those that are stored as the precision says."""
    found = weights(p)
    kind = p.array(*found[0]).dtype.kind
    alike = [place for place in found if p.array(*place).dtype.kind == kind]
    return alike[len(alike) // 2]


def weight(change: Callable[[Array], Any]) -> Plant:
    return lambda p: p.change(*one(p), change)


def numbers(what: str, change: Callable[[Array], Any], fits: Callable[[Array], bool] = lambda _: True) -> Plant:
    """Other numbers in the last constant of a kind: the first may be that of an input."""
    return lambda p: p.change(*list(p.places(what, fits))[-1], change)


def with_scale(factor: float) -> Plant:
    """An output: by its scale where there is one, by a step of one of its numbers where its table is shared."""

    def plant(p: P) -> str:
        try:
            return numbers("scale", lambda values: first_times(values, factor), several)(p)
        except LookupError:
            number, name = one(p)
            change = one_number if p.array(number, name).dtype.kind in "iu" else lambda v: first_times(v, factor)
            return p.change(number, name, change)

    return plant


def several(values: Array) -> bool:
    return values.size > 1


def is_one(values: Array) -> bool:
    return values.size == 1


def is_map(values: Array) -> bool:
    return values.ndim > 2


def first_times(values: Array, factor: float) -> None:
    rows = values.reshape(-1) if values.ndim < 2 or 1 in (values.shape[0],) else values
    rows[0] = rows[0] * factor


def in_rows(values: Array, width: int = 16) -> Array:
    """Numbers of one dimension in rows, as a view; the last dimension first where the first one is 1."""
    if values.ndim < 2:
        return values[: len(values) // width * width].reshape(-1, width)
    return values.swapaxes(0, -1) if values.shape[0] == 1 else values


def zeroed(values: Array) -> None:
    in_rows(values)[0] = 0


def swap_rows(values: Array) -> None:
    rows = in_rows(values)
    rows[[0, 1]] = rows[[1, 0]]


def flip_sign(values: Array) -> Array:
    return -values if values.min() < 0 else values.max() - values


def one_number(values: Array) -> None:
    flat = values.reshape(-1)
    at = int(np.abs(flat).argmax())
    flat[at] = flat[at] * 1.1 if values.dtype.kind == "f" else flat[at] - np.sign(flat[at])


def coarser(values: Array) -> Array:
    """At half of the bits or fewer."""
    step = np.abs(values).max() / 7 if values.dtype.kind == "f" else 3
    return np.rint(values / step) * step


def little_noise(values: Array) -> Array:
    share = 1e-5 if values.dtype == np.float32 else 4e-3
    noise = np.random.default_rng(0).normal(size=values.shape)
    return values + (noise * share * np.sqrt((values.astype(np.float64) ** 2).mean())).astype(values.dtype)


def steps_of_noise(values: Array) -> None:
    flat = values.reshape(-1)
    flat[::100] += np.where(flat[::100] > 0, -1, 1)


def neighbours_swapped(values: Array) -> None:
    pairs = in_rows(values.reshape(-1), 2)
    pairs[:] = pairs[:, ::-1].copy()


def not_a_number(values: Array) -> None:
    values.reshape(-1)[7] = np.nan


def times(factor: float) -> Callable[[Array], Array]:
    return lambda values: values * values.dtype.type(factor) if values.dtype.kind == "f" else values * factor


def plus(amount: float) -> Callable[[Array], Array]:
    return lambda values: values + values.dtype.type(amount)


def backwards(values: Array) -> Array:
    return values[::-1]


def same_shaped(p: P) -> tuple[tuple[int, str], tuple[int, str]]:
    found = weights(p)
    return next(
        (a, b)
        for i, a in enumerate(found)
        for b in found[i + 1 :]
        if p.array(*a).shape == p.array(*b).shape and not np.array_equal(p.array(*a), p.array(*b))
    )


def weights_swapped(p: P) -> str:
    first, second = same_shaped(p)
    a, b = p.value(*first), p.value(*second)
    p.give(*second, a)
    return p.give(*first, b)


def weight_of_another_layer(p: P) -> str:
    first, second = same_shaped(p)
    return p.give(*first, p.value(*second))


def transposed(p: P) -> str:
    """A product's weight that is square or, where it is read in another shape, its numbers in the other order."""
    found = [place for place in weights(p) if p.array(*place).ndim > 1]
    square = [place for place in found if len({size for size in p.array(*place).shape if size > 1}) == 1]
    return p.change(*(square or found)[0], lambda values: values.swapaxes(0, values.ndim - 1).reshape(values.shape))


def kernel(change: Callable[[P, Array], Array]) -> Plant:
    """Another kernel of a convolution, whose numbers are floats in all precisions."""

    def plant(p: P) -> str:
        wide = (place for place in p.places("weight", lambda one: one.ndim == 4) if columns(p, place) > 1)
        return p.change(*next(wide), lambda values: change(p, values))

    return plant


def one_nan(p: P) -> str:
    """NaN in a weight that is stored as floats, or in the scales of one that is not."""

    def floats(values: Array) -> bool:
        return values.dtype.kind == "f" and values.size > 8

    try:
        found = list(p.places("weight", floats))
    except LookupError:
        found = list(p.places("scale", floats))
    return p.change(*found[-1], not_a_number)


def columns(p: P, place: tuple[int, str]) -> int:
    return int(p.array(*place).shape[p.words.columns])


def without_identity(p: P, values: Array) -> Array:
    """Folding a RepMixer adds one to the middle of its kernels."""
    middle = [slice(None)] * 4
    for dim in (p.words.columns - 1, p.words.columns):
        middle[dim] = slice(values.shape[dim] // 2, values.shape[dim] // 2 + 1)
    values[tuple(middle)] -= 1
    return values


def queries_and_keys_in_weight(p: P) -> str:
    """Their thirds of the weight that gives queries, keys and values: [3 D, D], of two numbers a byte [3 D, D / 2]."""

    def outputs(values: Array) -> int | None:
        rest = [values.size // size for size in values.shape]
        return next((dim for dim, size in enumerate(values.shape) if size in (3 * rest[dim], 6 * rest[dim])), None)

    place = next(place for place in weights(p) if outputs(p.array(*place)) is not None)

    def change(values: Array) -> Array:
        queries, keys, others = np.split(values, 3, axis=outputs(values) or 0)
        return np.concatenate([keys, queries, others], axis=outputs(values) or 0)

    return p.change(*place, change)


def first_channels_reversed(p: P) -> str:
    place = next(p.places("weight", lambda one: one.ndim == 4 and one.shape[p.words.channels] == 3))
    return p.change(*place, lambda values: np.flip(values, p.words.channels))


def mask_of_positions(p: P) -> str:
    """The triangle that finds the first end of text finds the last."""
    masks = p.places("mask", lambda one: is_square(one) and {*np.unique(one)} == {0, 1})
    return p.change(*next(masks), np.transpose)


def table(change: Callable[[Array], Any]) -> Plant:
    """Words of no prompt: those at the end of the table."""
    return lambda p: p.change(
        *next(p.places("rows", lambda one: large(one) and (one.ndim < 2 or len(one) > 90))), change
    )


def rows_swapped(values: Array) -> None:
    rows = in_rows(values.reshape(-1))
    rows[[-40, -2]] = rows[[-2, -40]]


def row_overwritten(values: Array) -> None:
    rows = in_rows(values.reshape(-1))
    rows[-2] = rows[8]


def row_changed(values: Array) -> None:
    values.reshape(-1)[-16:] = values.reshape(-1)[-16:] // 2 + 1


def shifted(values: Array) -> Array:
    return np.roll(values, 16) if values.ndim < 2 else np.roll(values, 1, axis=0)


def positions(p: P) -> str:
    return p.change(
        *next(p.places("positions", lambda one: one.ndim > 1 and one.size > 64)), lambda one: np.roll(one, 1, -2)
    )


def end_of_text(number: int | None) -> Plant:
    """Another id; 0 is found behind it."""

    def plant(p: P) -> str:
        compares = p.find("equal")
        if "argument 1" in p.nodes[compares].settings:
            (*_, own) = str(p.value(compares, "argument 1")).split()
            return p.give(compares, "argument 1", f"Int {int(own) - 1 if number is None else number}")
        return p.change(*next(p.places("end of text")), lambda one: one - 1 if number is None else one * 0 + number)

    return plant


def bias_dropped(p: P) -> str:
    """An input that is left out."""
    number, name = list(p.places("bias", several))[-1]
    node = p.nodes[number]
    if p.words.operations["addition"][0] == node.type:
        p.bypass(number)
        return p.named(p.users(p.taken(number)[0])[0])
    return p.give(number, name, None)


# Activations that are quantized by what stands in the file


def quantizing(p: P) -> tuple[int, str]:
    return list(p.places("step"))[3 % len(list(p.places("step")))]


def zero_of_activations(p: P) -> str:
    """The integer of zero: a constant, or a setting."""
    number, _ = quantizing(p)
    if "output zero point" in p.nodes[number].settings:
        return p.give(number, "output zero point", p.value(number, "output zero point") + 1)
    return p.change(*next(place for place in p.places("integer of zero")), lambda one: one + np.where(one < 100, 1, -1))


def restored_otherwise(p: P) -> str:
    (back, name) = next(place for place in p.places("step back", lambda one: one.size == 1))
    return p.change(back, name, times(1.5))


def halved_on_both_sides(p: P) -> str:
    number, name = quantizing(p)
    for user in p.users(Wire(number)):
        step = next((given for kind, given in p.words.numbers["step back"] if kind == p.nodes[user].type), None)
        if step is not None:
            p.change(user, step, times(0.5))
    return p.change(number, name, times(0.5))


def ranges_swapped(p: P) -> str:
    found = list(p.places("step"))
    first, second = next((a, b) for a in found for b in found if not np.array_equal(p.array(*a), p.array(*b)))
    a, b = p.value(*first), p.value(*second)
    p.give(*second, a)
    return p.give(*first, b)


def all_cut_off(p: P) -> str:
    first, *_ = [p.change(number, name, times(0.5)) for number, name in list(p.places("step"))]
    return first


def not_quantized(p: P) -> None:
    number, _ = quantizing(p)
    for back in p.users(Wire(number)):
        p.instead(Wire(back), p.taken(number)[0])


def measured_otherwise(p: P) -> str:
    number = next(one for one in p.all("quantize") if "measured over 1" in str(p.value(one, "output")))
    return p.give(number, "output", p.value(number, "output").replace("over 1", "over 2"))


# Operations


def retyped(what: str, by: str, index: int = 0) -> Plant:
    return lambda p: p.retype(p.find(what, index), p.words.operations[by][0])


def said(name: str, what: str, files: str = "everywhere", index: int = 0, **how: Any) -> Kind:
    """Another setting of an operation: its name and value in each target that has it."""
    return Kind(name, lambda p: p.give(p.find(what, index), *how[p.target]), files, tuple(how))


def either(constants: str, change: Callable[[Array], Any], what: str, **changed: tuple[str, Any]) -> Plant:
    """A constant that says it, or a setting: of the first operation, which is the one that the other kinds take."""

    def plant(p: P) -> str:
        if p.target in changed:
            name, value = changed[p.target]
            number = next(one for one in p.all(what) if p.nodes[one].settings.get(name, value) != value)
            return p.give(number, name, value)
        return p.change(*next(p.places(constants)), change)

    return plant


def left_out(what: str, index: int = -1) -> Plant:
    """An operation that is passed by: named is what takes its input then, or nothing where order decides."""
    return lambda p: p.bypass(p.find(what, index))


def joins(p: P) -> list[int]:
    return [number for number in p.all("addition") if len(set(p.taken(number))) == 2]


def one_side(kept: int) -> Plant:
    return lambda p: p.bypass(joins(p)[1], kept)


def with_itself(p: P) -> None:
    number = joins(p)[-1]
    first, second = p.taken(number)
    name = next(name for name, given in p.nodes[number].inputs if given == second)
    p.give(number, name, first)


def factors_exchanged(p: P) -> None:
    """Keys and queries."""
    number = next(one for one in p.all("attention") if len(set(p.taken(one))) > 1)
    names = [name for name, given in p.nodes[number].inputs if isinstance(given, Wire)][:2]
    first, second = (p.value(number, name) for name in names)
    p.give(number, names[0], second)
    p.give(number, names[1], first)


def taken_for(one: int, other: int) -> Plant:
    """The keys are the queries, the values are the keys: one part is taken twice."""

    def plant(p: P) -> None:
        splits = p.all("split")
        many = bool(p.users(Wire(splits[0], 1)))
        parts = [Wire(splits[0], index) if many else Wire(splits[index]) for index in range(3)]
        p.instead(parts[other], parts[one])

    return plant


def join_turned(p: P) -> None:
    """The halves of a convolution that doubles the channels: the second of each channel comes first."""
    number = p.find("concatenation")
    names = [name for name, given in p.nodes[number].inputs if isinstance(given, Wire)][:2]
    first, second = (p.value(number, name) for name in names)
    assert first != second
    p.give(number, names[0], second)
    p.give(number, names[1], first)


def softmax_turned(p: P) -> str:
    """Over the queries instead of the keys: by its axis, or transposed before and after."""
    if "axis" in p.nodes[p.find("softmax")].settings:
        return p.give(p.find("softmax"), "axis", -2)
    if "softmax axis" in p.words.numbers:
        return p.change(*next(p.places("softmax axis")), lambda one: one - 1)
    number = p.find("softmax")
    (kind,), (scores,) = p.words.operations["transpose"], p.taken(number)
    before = p.add(kind, scores, perm=[0, 2, 1])
    p.nodes[number] = replace(
        p.nodes[number], inputs=((p.nodes[number].inputs[0][0], before), *p.nodes[number].inputs[1:])
    )
    return f"planted {kind}" if p.insert(Wire(number), "transpose", perm=[0, 2, 1]) else ""


def before_softmax(what: str, value: Callable[[P], Array]) -> Plant:
    """An operation on the scores, or on the queries of one that computes attention as a whole."""

    def plant(p: P) -> str:
        return p.insert(p.taken(p.find("softmax"))[0], what, Constant(value(p)))

    return plant


def tanh_written_out(p: P) -> Plant | str:
    """0.5 x (1 + tanh(0.79788 (x + 0.044715 x^3))), where a GELU has no setting for it."""
    number = p.find("gelu")
    (x,) = p.taken(number)
    multiplied, added = p.words.operations["multiplication"][0], p.words.operations["addition"][0]

    def const(value: float) -> Constant:
        return Constant(np.float32([value]))

    cube = p.add(multiplied, p.add(multiplied, p.add(multiplied, x, x), x), const(0.044715))
    inner = p.add(multiplied, p.add(added, x, cube), const(0.79788456))
    outer = p.add(added, p.add("XNNTanh", inner), const(1))
    p.instead(Wire(number), p.add(multiplied, p.add(multiplied, x, const(0.5)), outer))
    return "XNNGelu"


def tanh_gelu(p: P) -> Any:
    changed = {
        "onnx": ("approximate", "tanh"),
        "coreml": ("mode", "TANH_APPROXIMATION"),
        "coreai": ("approximate", "#coreai.approximate<tanh>"),
        "litert": ("approximate", True),
    }
    return p.give(p.find("gelu"), *changed[p.target]) if p.target in changed else tanh_written_out(p)


def epsilon(p: P) -> str:
    """A setting, a constant, or an addition where a norm is written out."""
    settings: dict[str, tuple[str, Any]] = {"onnx": ("epsilon", 1e-3), "executorch": ("argument 4", "Double 0.001")}
    if p.target in settings:
        return p.give(p.find("norm"), *settings[p.target])
    return p.change(
        *next(p.places("epsilon", lambda one: one.size == 1 and one.max() < 1e-3)), lambda one: one * 0 + 1e-3
    )


def gain_and_shift(p: P) -> str | None:
    """Each in the place of the other: of one operation, or of the last two of a norm that is written out."""
    gain = list(p.places("gain", lambda one: one.size > 8))[-1]
    shape = p.array(*gain).shape
    shift = list(p.places("shift", lambda one: one.shape == shape))[-1]
    a, b = p.value(*gain), p.value(*shift)
    p.give(*shift, a)
    return p.give(*gain, b)


def declared_epsilon(p: P) -> str:
    """What a called function is declared to be, its body untouched: a device may compute what is declared."""
    number = next(one for one in p.order if "layer_norm" in str(p.nodes[one].settings.get("composite_decl")))
    told = p.value(number, "composite_decl")
    return p.give(number, "composite_decl", told.replace("9.99999974E-6", "1.000000e-03"))


def moved_aside(values: Array) -> None:
    """One less in front, one more behind: where there is padding, at the end of the list."""
    values.reshape(-1)[-2] -= 1
    values.reshape(-1)[-1] += 1


def padding_aside(p: P) -> str:
    if p.target == "onnx":
        number = next(one for one in p.all("convolution") if p.value(one, "pads")[1] > 0)
        top, left, bottom, right = p.value(number, "pads")
        return p.give(number, "pads", [top, left - 1, bottom, right + 1])
    if p.target == "executorch":
        number = next(one for one in p.all("depthwise") if p.value(one, "padding_left") > 0)
        return p.give(number, "padding_left", 0)
    return p.change(*next(p.places("padding", lambda one: bool(one.any()))), moved_aside)


# Ports


def port(side: str, change: Callable[[str], str]) -> Plant:
    def plant(p: P) -> None:
        first, *rest = getattr(p.graph, side)
        assert change(first) != first
        p.graph = replace(p.graph, **{side: (change(first), *rest)})

    return plant


def renamed(side: str) -> Plant:
    return port(side, lambda text: " ".join(["other", *text.split(" ")[1:]]))


def other_type(side: str) -> Plant:
    """Another type of the inputs or the outputs, where the settings of the file say it."""

    def plant(p: P) -> None:
        said = next((name for name in p.graph.settings if name.startswith(side.removesuffix("s"))), None)
        if said is None:
            port(
                side,
                lambda text: text.replace("float", "half", 1) if "float" in text else text.replace("int", "uint", 1),
            )(p)
            return
        text = p.graph.settings[said]
        changed = text.replace("FLOAT32", "FLOAT16").replace("INT32", "FLOAT32").replace("RGB", "BGR")
        assert changed != text
        p.graph = replace(p.graph, settings={**p.graph.settings, said: changed})

    return plant


def of_file(name: str, value: str) -> Plant:
    """A setting of the file as a whole."""

    def plant(p: P) -> None:
        assert p.graph.settings[name] != value
        p.graph = replace(p.graph, settings={**p.graph.settings, name: value})

    return plant


def result_of(p: P) -> Wire:
    (result,) = p.graph.results
    return result


def at_the_end(what: str, *others: Any) -> Plant:
    return lambda p: p.insert(result_of(p), what, *map(Constant, others))


def normalised(p: P) -> str:
    """Divided by their length."""
    result = result_of(p)
    length = p.add(p.words.operations["length"][0], result)
    new = p.add(p.words.operations["division"][0], result, length)
    p.graph = replace(p.graph, results=(new,))
    return "planted"


def answered_earlier(p: P) -> None:
    """The embedding before the last operation."""
    result = result_of(p)
    p.graph = replace(p.graph, results=(p.taken(result.node)[0],))


def at_the_input(what: str, *others: Any) -> Plant:
    return lambda p: p.insert(Wire(None), what, *map(Constant, others))


def rare_word(p: P) -> str:
    """One id is read as another."""
    ids = Wire(None)
    users = p.users(ids)
    found = p.add(p.words.operations["equal"][0], ids, Constant(np.int64(12345)))
    other = p.add(p.words.operations["select"][0], found, Constant(np.int64(320)), ids)
    for number in users:
        node = p.nodes[number]
        p.nodes[number] = replace(
            node, inputs=tuple((name, other if given == ids else given) for name, given in node.inputs)
        )
    return "planted"


def in_half(p: P) -> str:
    """What lies in between is cut to less and taken back."""
    gelu = Wire(p.find("gelu"))
    p.insert(gelu, "cast", to="bfloat16")
    return p.insert(Wire(len(p.nodes) - 1), "cast", to="float32")


KINDS: tuple[Kind, ...] = (
    # What weights are
    Kind("an output scaled by 1.03", with_scale(1.03)),
    Kind("an output scaled by 1.5", with_scale(1.5)),
    Kind("an output zeroed", weight(zeroed)),
    Kind("two outputs swapped", weight(swap_rows)),
    Kind("the weights of two layers swapped", weights_swapped),
    Kind("the weight of another layer", weight_of_another_layer),
    Kind("a weight transposed", transposed),
    Kind("signs flipped", weight(flip_sign)),
    Kind("one number of a weight", weight(one_number)),
    Kind("neighbours of a weight swapped", weight(neighbours_swapped)),
    Kind("a layer at half its bits or fewer", weight(coarser)),
    Kind("a little noise", numbers("weight", little_noise, lambda one: large(one) and one.dtype.kind == "f")),
    Kind("a step more in every hundredth number", weight(steps_of_noise)),
    Kind("all scales doubled", numbers("scale", times(2), several), "integers"),
    Kind("a little noise on scales", numbers("scale", little_noise, several), "integers"),
    Kind("scales of the neighbours", numbers("scale", lambda one: np.roll(one, 1), several), "integers"),
    Kind("a zero point moved", numbers("zero point", plus(1), several), "zeros"),
    Kind("an offset on a weight", numbers("offset", plus(0.01)), "offsets"),
    Kind("a table in reverse", numbers("table", lambda one: np.flip(one)), "tables"),
    Kind("an entry of a table", numbers("table", one_number), "tables"),
    Kind("numbers or indices shifted by one", weight(lambda one: np.roll(one, 1))),
    Kind("two numbers of a byte swapped", weight(lambda one: one >> 4 | (one & 15) << 4), "integers"),
    Kind("a kernel flipped", kernel(lambda p, one: np.flip(one, p.words.columns))),
    Kind("a kernel without its identity", kernel(without_identity)),
    Kind("one tap of a kernel", kernel(lambda _, one: one + (np.arange(one.size).reshape(one.shape) == 3))),
    Kind("one NaN", one_nan),
    Kind("a bias dropped", bias_dropped),
    Kind("a bias scaled", numbers("bias", times(1.5), several)),
    Kind("one number of a bias", numbers("bias", one_number, several)),
    Kind("neighbours of a bias swapped", numbers("bias", neighbours_swapped, several)),
    Kind("the bias of a product", numbers("product's bias", plus(1), lambda one: one.ndim == 1 and one.size > 1)),
    Kind("a scale of a bias", numbers("scale of a bias", times(2)), "biases"),
    Kind("queries and keys swapped in their weight", queries_and_keys_in_weight, "in order"),
    Kind("the first convolution's channels in BGR order", first_channels_reversed, "image"),
    Kind("a layer scale forgotten", numbers("layer scale", np.ones_like, is_map), "scaled"),
    Kind("a norm's gain", numbers("gain", one_number, lambda one: one.size > 8), "text"),
    Kind("a norm's shift", numbers("shift", one_number, lambda one: one.size > 8), "text"),
    Kind("words of no prompt swapped", table(rows_swapped), "text"),
    Kind("words of no prompt overwritten", table(row_overwritten), "text"),
    Kind("the row of a word changed", table(row_changed), "text"),
    Kind("the table of words shifted", table(shifted), "text"),
    Kind("positions shifted", positions, "text"),
    Kind("another end-of-text id", end_of_text(None), "text"),
    Kind("pooled behind the end of text", end_of_text(0), "text"),
    Kind("pooled at the last end of text", mask_of_positions, "text"),
    # How activations are quantized
    Kind("a range of activations", lambda p: p.change(*quantizing(p), times(1.5)), "quantized"),
    Kind("a zero point of activations", zero_of_activations, "quantized"),
    Kind("ranges of two activations swapped", ranges_swapped, "quantized"),
    Kind("every range of activations halved", all_cut_off, "quantized"),
    Kind("activations that are not quantized", not_quantized, "quantized"),
    Kind("activations restored by another step", restored_otherwise, "restored"),
    Kind("a range halved on both sides", halved_on_both_sides, "restored"),
    Kind("a range of results", numbers("step of a result", times(1.5)), "results"),
    Kind("activations measured over other dimensions", measured_otherwise, "measured"),
    # What operations compute
    Kind("another activation for GELU", retyped("gelu", "activation")),
    Kind("tanh-GELU", tanh_gelu),
    Kind("a GELU left out", left_out("gelu")),
    Kind("tanh for sigmoid in squeeze-excite", retyped("sigmoid", "tanh"), "image"),
    Kind("a ReLU for sigmoid in squeeze-excite", retyped("sigmoid", "rectified"), "image"),
    Kind("a gate left out", left_out("sigmoid"), "image"),
    Kind("a sigmoid for ReLU", retyped("relu", "sigmoid"), "rectified"),
    Kind("a ReLU left out", left_out("relu"), "rectified"),
    Kind("the largest instead of the mean", retyped("mean", "largest", -1), "means"),
    Kind("the sum instead of the mean", retyped("mean", "sum", -1), "means"),
    Kind("a mean over another axis", numbers("axes", plus(-1)), "axes"),
    Kind(
        "dimensions of a mean",
        either("kept dimensions", np.logical_not, "mean", onnx=("keepdims", 0), litert=("keep_dims", False)),
        "dimensions",
    ),
    Kind("no sum to one", retyped("softmax", "sigmoid")),
    Kind("a softmax left out", left_out("softmax")),
    Kind("softmax over another axis", softmax_turned, "in parts"),
    said("a softmax that is flatter", "softmax", litert=("beta", 0.5)),
    Kind("attention scaled twice", before_softmax("multiplication", lambda _: np.float32([2]))),
    Kind("attention not scaled", numbers("attention scale", np.ones_like, is_one), "in parts"),
    Kind(
        "a causal mask", before_softmax("addition", lambda _: np.triu(np.full((77, 77), -1e4, np.float32), 1)), "text"
    ),
    Kind("keys and queries the other way round", factors_exchanged),
    Kind("keys are the queries", taken_for(0, 1)),
    Kind("values are the keys", taken_for(1, 2)),
    Kind(
        "a factor turned",
        either("turned", np.logical_not, "attention", litert=("adjoint_y", True)),
        "turned",
    ),
    Kind("difference instead of a sum", retyped("addition", "subtraction", -1)),
    Kind("a sum instead of a product", retyped("multiplication", "addition")),
    Kind("a sum instead of a difference", retyped("subtraction", "addition"), "text"),
    Kind("a residual dropped", one_side(1)),
    Kind("a branch dropped", one_side(0)),
    Kind("a value added to itself", with_itself),
    Kind("another bound", retyped("bound", "unbound"), "text"),
    Kind("the other bound on the other side", retyped("other bound", "bound"), "Core AI text"),
    Kind("a number of a bound", numbers("limit", lambda one: one + 1), "bounds"),
    Kind("a root instead of its inverse", retyped("inverse root", "root"), "roots"),
    Kind("a root left out", left_out("inverse root"), "roots"),
    Kind("a difference that is not squared", retyped("square", "subtraction"), "squares"),
    Kind("another epsilon", epsilon, "text"),
    Kind("a norm declared with another epsilon", declared_epsilon, "Core AI text"),
    Kind("a norm's gain and shift swapped", gain_and_shift, "text"),
    Kind("the last norm dropped", left_out("norm"), "norms"),
    said("another factor of the projection", "projection", "projected", onnx=("alpha", 0.5)),
    Kind("padding aside", padding_aside, "padded"),
    Kind("padding with a half", numbers("value of padding", plus(0.5)), "Core AI"),
    said(
        "padding by a rule",
        "convolution",
        "image",
        onnx=("auto_pad", "SAME_UPPER"),
        coreml=("pad_type", "same"),
        litert=("padding", 7),
    ),
    Kind(
        "another stride",
        either(
            *("stride", plus(1), "convolution"),
            onnx=("strides", [3, 3]),
            litert=("stride_w", 3),
            executorch=("subsampling_width", 4),
        ),
        "image",
    ),
    Kind(
        "a dilated convolution",
        either(
            *("dilation", plus(1), "convolution"),
            onnx=("dilations", [2, 2]),
            litert=("dilation_w", 2),
            executorch=("dilation_width", 2),
        ),
        "image",
    ),
    said(
        "another dilation of a band",
        "depthwise",
        "image",
        -1,
        litert=("dilation_h", 2),
        executorch=("dilation_height", 5),
    ),
    said("another depth multiplier", "depthwise", "image", litert=("multiplier", 3)),
    Kind("halves of a convolution swapped", join_turned, "joined"),
    said("an activation behind a convolution", "convolution", "image", litert=("activation", 3), executorch=RECTIFIED),
    said("an activation behind a sum", "addition", index=-1, litert=("activation", 1), executorch=RECTIFIED),
    said("an activation behind a factor", "multiplication", litert=("activation", 1), executorch=RECTIFIED),
    said("an activation behind a product", "product", index=-1, litert=("activation", 3), executorch=RECTIFIED),
    said("inputs of a product rounded with a zero point", "product", litert=("asymmetric_inputs", True)),
    Kind(
        "axes in another order",
        either("order", backwards, "transpose", onnx=("perm", [0, 1, 3, 2]), executorch=("perm", [0, 1, 2, 3])),
    ),
    Kind("another shape", either("shape", plus(1), "reshape", executorch=("new_shape", [2, 2]))),
    Kind("a reshape for a transpose", lambda p: p.retype(p.find("transpose"), p.words.operations["reshape"][0])),
    Kind("cut elsewhere", either("cut", plus(1), "split", executorch=("offsets", [0, 0, 1]))),
    Kind("cast between operations", in_half),
    # What goes in and out
    Kind("1/255 missing", lambda p: p.change(*next(p.places("pixel scale")), np.ones_like), "Core ML image"),
    Kind("1/256 for 1/255", lambda p: p.change(*next(p.places("pixel scale")), times(255 / 256)), "Core ML image"),
    Kind("a mean subtracted", at_the_input("subtraction", np.float32(0.45)), "image"),
    Kind("normalised twice", at_the_input("multiplication", np.float32(1 / 0.27)), "image"),
    Kind("ids shifted", at_the_input("addition", np.int64(1)), "text"),
    Kind("a branch that a rare word takes", rare_word, "text"),
    Kind("outputs times 100", at_the_end("multiplication", np.float32(100))),
    Kind("outputs normalised", normalised),
    Kind("an operation behind the output", at_the_end("bound")),
    Kind("the embedding before its last operation", answered_earlier),
    Kind("the input renamed", renamed("inputs")),
    Kind("the output renamed", renamed("outputs")),
    Kind("another type or colour of the input", other_type("inputs")),
    Kind("another type of the output", other_type("outputs")),
    Kind("another specification version", of_file("specification version", "99"), "Core ML"),
    Kind("an updatable model", of_file("updatable", "True"), "Core ML"),
)


# What says the same in other words


def operations_renamed(p: P) -> None:
    for number, node in enumerate(p.nodes):
        inputs = tuple(
            (name, Constant(given.values, f"constant {number}") if isinstance(given, Constant) else given)
            for name, given in node.inputs
        )
        p.nodes[number] = replace(node, name=f"operation {number}", inputs=inputs)


def operations_reversed(p: P) -> None:
    """In the order of the file alone: what is needed decides how they are compared."""
    last = len(p.nodes) - 1

    def moved(given: Any) -> Any:
        return Wire(last - given.node, given.output) if isinstance(given, Wire) and given.node is not None else given

    p.nodes = [
        replace(node, inputs=tuple((name, moved(given)) for name, given in node.inputs)) for node in reversed(p.nodes)
    ]
    p.graph = replace(p.graph, results=tuple(map(moved, p.graph.results)))


def unused_added(p: P) -> None:
    p.nodes.append(Node("anything", (("x", Constant(np.arange(5))),)))


def rounded_otherwise(p: P) -> None:
    """The last bit of every float: what folding in another order leaves."""
    for number in p.order:
        for name, given in p.nodes[number].inputs:
            if isinstance(given, Constant) and given.values.dtype.kind == "f" and (np.abs(given.values) > 1e-3).all():
                p.give(number, name, Constant(np.nextafter(given.values, np.inf, dtype=given.values.dtype)))


def constants_copied(p: P) -> None:
    for number in p.order:
        for name, given in p.nodes[number].inputs:
            if isinstance(given, Constant):
                p.give(number, name, Constant(given.values.copy(), given.name))


HARMLESS = {
    "operations and constants renamed": operations_renamed,
    "operations in another order": operations_reversed,
    "an unused operation": unused_added,
    "the last bit of every float": rounded_otherwise,
    "constants written again": constants_copied,
}
