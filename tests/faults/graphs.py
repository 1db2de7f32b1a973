"""A `Graph` that is being damaged, and what each target calls the parts of a network in its graphs."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, needed, wires

Array = npt.NDArray[Any]
Change = Callable[[Array], Array | None]
Place = tuple[str, str]
"""Type of an operation, and the name of an input or setting."""


@dataclass(frozen=True)
class Words:
    """What a target's graphs call things.

    Attributes:
        operations: types of operations by what they are.
        numbers: constants and settings by what they hold; a constant that is smaller than a weight is left out.
        inputs: of an operation with two inputs.
        channels, columns: the dimensions of a convolution's weight with the inputs, and along its width.
    """

    operations: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, tuple[Place, ...]]
    inputs: tuple[str, str]
    channels: int
    columns: int


class PlantedGraph:
    """A graph that is being damaged; `done` gives it. Edits give the name of the operation at fault.

    What a graph lacks raises LookupError: the fault cannot be planted in it.
    """

    def __init__(self, target: str, graph: Graph) -> None:
        self.target, self.words = target, WORDS[target]
        self.graph, self.nodes, self.order = graph, list(graph.nodes), needed(graph)

    def done(self) -> Graph:
        return replace(self.graph, nodes=tuple(self.nodes))

    # Operations

    def all(self, what: str) -> list[int]:
        """The operations of a kind that outputs need, in the order of need."""
        found = [number for number in self.order if self.nodes[number].type in self.words.operations.get(what, ())]
        if not found:
            raise LookupError(f"no {what}")
        return found

    def find(self, what: str, index: int = 0) -> int:
        return self.all(what)[index]

    def named(self, number: int) -> str:
        """What a message calls an operation."""
        return repr(self.nodes[number].name)

    def value(self, number: int, name: str) -> Any:
        node = self.nodes[number]
        given: dict[str, Any] = dict(node.inputs)
        return given[name] if name in given else node.settings[name]

    def give(self, number: int, name: str, value: Any) -> str:
        """Another input or setting of an operation; an input that it does not have is added."""
        node = self.nodes[number]
        inputs = dict(node.inputs)
        if name in node.settings and name not in inputs:
            assert node.settings[name] != value
            self.nodes[number] = replace(node, settings={**node.settings, name: value})
        else:
            self.nodes[number] = replace(node, inputs=tuple({**inputs, name: value}.items()))
        return self.named(number)

    def retype(self, number: int, kind: str) -> str:
        assert self.nodes[number].type != kind
        self.nodes[number] = replace(self.nodes[number], type=kind)
        return self.named(number)

    def taken(self, number: int) -> list[Wire]:
        """What an operation takes that is computed."""
        return wires(self.nodes[number])

    def add(self, kind: str, *inputs: Input, **settings: Any) -> Wire:
        """A new operation, whose inputs are called as those of two are."""
        given = zip((*self.words.inputs, "more"), inputs, strict=False)
        self.nodes.append(Node(kind, tuple(given), settings, f"planted {kind}"))
        return Wire(len(self.nodes) - 1)

    def users(self, value: Wire) -> list[int]:
        return [number for number, node in enumerate(self.nodes) if value in wires(node)]

    def instead(self, value: Wire, other: Input, but: int | None = None) -> list[int]:
        """Have all that takes a value (and outputs) take another; gives who did. `but`: who keeps it."""
        users = [number for number in self.users(value) if number != but]
        for number in users:
            node = self.nodes[number]
            self.nodes[number] = replace(
                node, inputs=tuple((name, other if given == value else given) for name, given in node.inputs)
            )
        results = tuple(other if result == value and but is not None else result for result in self.graph.results)
        self.graph = replace(self.graph, results=results)
        return users

    def bypass(self, number: int, kept: int = 0) -> None:
        """Remove an operation, as if its result were one of the values that it takes."""
        value = self.taken(number)[kept]
        self.instead(Wire(number), value)
        results = tuple(value if result == Wire(number) else result for result in self.graph.results)
        self.graph = replace(self.graph, results=results)

    def insert(self, value: Wire, what: str, *others: Input, **settings: Any) -> str:
        """A new operation between a value and all that take it."""
        (kind, *_) = self.words.operations[what]
        new = self.add(kind, value, *others, **settings)
        self.instead(value, new, but=new.node)
        return self.named(new.node)

    # Constants

    def places(self, what: str, fits: Callable[[Array], bool] = lambda _: True) -> Iterator[tuple[int, str]]:
        found = False
        names: dict[str, list[str]] = {}
        for kind, name in self.words.numbers.get(what, ()):
            names.setdefault(kind, []).append(name)
        for number in self.order:
            for name, given in self.nodes[number].inputs:
                if (
                    name in names.get(self.nodes[number].type, ())
                    and isinstance(given, Constant)
                    and fits(given.values)
                ):
                    found = True
                    yield number, name
        if not found:
            raise LookupError(f"no {what}")

    def array(self, number: int, name: str) -> Array:
        given = self.value(number, name)
        if not isinstance(given, Constant):
            raise LookupError(f"{name} is computed")
        return given.values

    def change(self, number: int, name: str, change: Change) -> str:
        """Other numbers in a constant of one operation: changed in place, or those that the function gives.

        Integers are changed as integers of 64 bits, and cut to what their type holds.
        """
        before = self.array(number, name)
        wide = before.astype(np.int64) if before.dtype.kind in "iu" else before.copy()
        given = change(wide)
        after = wide if given is None else given
        if before.dtype.kind in "iu":
            after = np.clip(after, np.iinfo(before.dtype).min, np.iinfo(before.dtype).max)
        after = np.asarray(after).astype(before.dtype)
        assert not np.array_equal(after, before), "nothing was changed"
        old = self.value(number, name)
        return self.give(number, name, Constant(after, old.name))


# What operations are called. `b.`, `sdpa` and `indices~` are short for long words; what a network does not hold, such
# as `tanh`, is what the kinds of faults put in the place of it.
_OPERATIONS = """
what            onnx                coreml          coreai          litert              executorch
activation      Relu                relu            relu            RELU                XNNHardswish
addition        Add                 add             b.add           ADD                 XNNAdd
attention       MatMul              matmul,sdpa     b.batch_matmul  BATCH_MATMUL        XNNBatchMatrixMultiply
bound           Clip                clip            b.minimum       MINIMUM             XNNClamp
cast            Cast                cast            cast            CAST                XNNConvert
concatenation   Concat              -               -               CONCATENATION       XNNConcatenate2
convolution     Conv                conv            conv2d          CONV_2D             XNNConv2d
depthwise       -                   -               -               DEPTHWISE_CONV_2D   XNNDepthwiseConv2d
division        Div                 real_div        b.divide        DIV                 XNNDivide
equal           Equal               equal           b.equal         EQUAL               aten::eq.Scalar_out
gelu            Gelu                gelu            gelu            GELU                XNNGelu
inverse root    -                   -               rsqrt           RSQRT               -
largest         ReduceMax           reduce_max      reduce_max      REDUCE_MAX          XNNMaxPooling2d
length          ReduceL2            reduce_l2_norm  reduce_l2_norm  L2_NORMALIZATION    XNNSquareRoot
mean            ReduceMean          reduce_mean     reduce_mean     MEAN                XNNGlobalAvgPooling2d
multiplication  Mul                 mul             b.mul           MUL                 XNNMultiply
norm            LayerNormalization  layer_norm      -               -                   aten::native_layer_norm.out
other bound     -                   -               b.maximum       -                   -
product         -                   -               -               FULLY_CONNECTED     XNNFullyConnected
projection      Gemm                linear          -               FULLY_CONNECTED     XNNFullyConnected
quantize        QuantizeLinear      quantize        -               QUANTIZE            XNNConvert
rectified       Relu                relu            relu            RELU                XNNAbs
relu            Relu                relu            relu            -                   -
reshape         Reshape             reshape         reshape         RESHAPE             XNNStaticReshape
restore         DequantizeLinear    dequantize      -               DEQUANTIZE          -
root            -                   -               sqrt            SQRT                -
select          Where               select          b.where         SELECT_V2           aten::where.self_out
sigmoid         Sigmoid             sigmoid         sigmoid         LOGISTIC            XNNSigmoid
softmax         Softmax             softmax,sdpa    softmax         SOFTMAX             XNNSoftmax
split           Split               split           split           SLICE               XNNStaticSlice
square          -                   -               -               SQUARED_DIFFERENCE  -
subtraction     Sub                 sub             b.sub           SUB                 XNNSubtract
sum             ReduceSum           reduce_sum      reduce_sum      SUM                 XNNGlobalSumPooling2d
tanh            Tanh                tanh            tanh            TANH                XNNTanh
transpose       Transpose           transpose       transpose       TRANSPOSE           XNNStaticTranspose
unbound         Relu                relu            b.maximum       MAXIMUM             XNNAbs
"""
# Where constants stand: types of operations, and what these call the inputs.
_NUMBERS = {
    "onnx": """
weight = Conv: W; MatMul, Gemm, com.microsoft.MatMulNBits, MatMulInteger: B; DequantizeLinear: x; Cast: input
scale = DequantizeLinear: x_scale; com.microsoft.MatMulNBits: scales; Mul: B
zero point = DequantizeLinear: x_zero_point
bias = Conv: B
product's bias = Add: B
rows = Gather: data
positions = Add: B
mask = MatMul: B
attention scale = Mul: B
layer scale = Mul: A
gain = LayerNormalization: Scale
shift = LayerNormalization: B
step = QuantizeLinear: y_scale
integer of zero = QuantizeLinear: y_zero_point
step back = DequantizeLinear: x_scale
end of text = Equal: B
axes = ReduceMean: axes
shape = Reshape: shape
cut = Slice: starts, ends
limit = Clip: min, max
scale of a bias = DequantizeLinear: x_scale
""",
    "coreml": """
weight = conv, linear: weight, weight.quantized_data, weight.data, weight.indices, weight.nonzero_data.indices~
scale = conv, linear: weight.scale
zero point = conv, linear: weight.zero_point
table = conv, linear: weight.lut, weight.nonzero_data.lut
bias = conv: bias
product's bias = linear: bias
rows = gather: x, x.quantized_data, x.data, x.indices, x.nonzero_data.indices~
positions = add: y
mask = linear: weight
attention scale = mul: y
layer scale = mul: x
gain = layer_norm: gamma
shift = layer_norm: beta
epsilon = layer_norm: epsilon
step = quantize: scale
integer of zero = quantize: zero_point
step back = dequantize: scale
end of text = equal: y
pixel scale = mul: y
padding = conv: pad
stride = conv: strides
dilation = conv: dilations
softmax axis = softmax: axis
axes = reduce_mean: axes
kept dimensions = reduce_mean: keep_dims
turned = matmul, sdpa: transpose_y
order = transpose: perm
shape = reshape: shape
cut = split: split_sizes
limit = clip: alpha, beta
""",
    "coreai": """
weight = conv2d, b.batch_matmul: operand 1; transpose, blockwise_shift_scale, lut_to_dense: operand 0
scale = blockwise_shift_scale: operand 1
zero point = blockwise_shift_scale: operand 2
offset = blockwise_shift_scale: operand 3
table = lut_to_dense: operand 1
bias = b.add: operand 1
product's bias = b.add: operand 1
rows = gather_nd, blockwise_shift_scale: operand 0
positions = b.add: operand 1
mask = b.batch_matmul: operand 1
attention scale = b.mul: operand 1
layer scale = b.mul: operand 1
gain = b.mul: operand 1
shift = b.add: operand 1
epsilon = b.add: operand 1
end of text = b.equal: operand 1
padding = pad: operand 1
value of padding = pad: operand 2
stride = conv2d: operand 2
dilation = conv2d: operand 3
softmax axis = softmax: operand 1
axes = reduce_mean: operand 1
order = transpose: operand 1
shape = reshape: operand 1
cut = split: operand 1
limit = b.minimum: operand 1
""",
    "litert": """
weight = CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED: input 1; DEQUANTIZE: input 0
scale = CONV_2D, FULLY_CONNECTED, EMBEDDING_LOOKUP: input 1 scale
zero point = CONV_2D, FULLY_CONNECTED: input 1 zero point
bias = CONV_2D: input 2
scale of a bias = CONV_2D, FULLY_CONNECTED: input 2 scale
product's bias = FULLY_CONNECTED: input 2
rows = EMBEDDING_LOOKUP: input 1; DEQUANTIZE: input 0
positions = ADD: input 1
mask = FULLY_CONNECTED: input 1
attention scale = MUL: input 1
layer scale = MUL: input 1
gain = MUL: input 1
shift = ADD: input 1
epsilon = ADD: input 1
step = QUANTIZE: output 0 scale
integer of zero = QUANTIZE: output 0 zero point
step of a result = CONV_2D: output 0 scale
end of text = EQUAL: input 1
padding = PAD: input 1
axes = MEAN: input 1
order = TRANSPOSE: input 1
shape = RESHAPE: input 1
cut = SLICE: input 1, input 2
limit = MINIMUM: input 1
""",
    "executorch": """
weight = XNNConv2d, XNNDepthwiseConv2d, XNNFullyConnected: filter
scale = XNNConv2d, XNNFullyConnected: filter scale
bias = XNNConv2d, XNNFullyConnected: bias
scale of a bias = XNNConv2d, XNNFullyConnected: bias scale
product's bias = XNNFullyConnected: bias
rows = aten::embedding.out: argument 0
positions = XNNPACK input: x
mask = XNNFullyConnected: filter
attention scale = XNNPACK input: x
gain = aten::native_layer_norm.out: argument 2
shift = aten::native_layer_norm.out: argument 3
step = XNNConvert: output scale
step of a result = XNNConv2d, XNNFullyConnected: output scale
""",
}
_LONG = {
    "b.": "decomposable.broadcasting_",
    "sdpa": "scaled_dot_product_attention",
    "indices~": "indices_nonzero_data",
}
_LAYOUT = {"litert": (3, 2), "executorch": (3, 2)}  # [O, H, W, I]; elsewhere [O, I, H, W]
_INPUTS = {
    "onnx": ("A", "B"),
    "coreml": ("x", "y"),
    "coreai": ("operand 0", "operand 1"),
    "litert": ("input 0", "input 1"),
    "executorch": ("input1", "input2"),
}


def by_target(table: str) -> dict[str, dict[str, str]]:
    """Rows of a table by their first column, without the cells that are "-"."""
    (_, *targets), *rows = (re.split(r"  +", line) for line in table.strip().splitlines())
    return {
        name: {target: cell for target, cell in zip(targets, cells, strict=True) if cell != "-"}
        for name, *cells in rows
    }


def _words(target: str) -> Words:
    cells = {what: row[target] for what, row in by_target(_OPERATIONS).items() if target in row}
    operations = {what: tuple(map(_long, cell.split(","))) for what, cell in cells.items()}
    numbers = {}
    for line in _NUMBERS[target].strip().splitlines():
        what, _, places = line.partition(" = ")
        pairs = (place.rsplit(": ", 1) for place in places.split("; "))
        numbers[what] = tuple(
            (_long(kind), _long(name))
            for kinds, names in pairs
            for kind in kinds.split(", ")
            for name in names.split(", ")
        )
    return Words(operations, numbers, _INPUTS[target], *_LAYOUT.get(target, (1, 3)))


def _long(word: str) -> str:
    for short, whole in _LONG.items():
        if word.startswith(short) or word.endswith(short):
            return word.replace(short, whole)
    return word


WORDS: dict[str, Words] = {target: _words(target) for target in _INPUTS}
