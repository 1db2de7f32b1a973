"""An opened MLX file: its declarations, its graph, its weights, and MLX to run it."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput, Malformed, NotRun, first_sentence
from mobileclip_deploy.targets.artifact import Artifact, counted
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.grids.decode import Affine, StoredWeight, as_float, on_grid, spread, turned, unpack_int4
from mobileclip_deploy.targets.mlx.function_file import Declared, MlxFunction, MlxOperation, Value, read_function
from mobileclip_deploy.targets.values import Runner, TensorInfo
from mobileclip_deploy.targets.weights import View, WeightTable, numbers_of


class MlxArtifact(Artifact):
    """A .mlxfn file of one function with one input and one result."""

    @cached_property
    def content(self) -> MlxFunction:
        """The parsed file."""
        function = read_function(self.path)
        if len(function.inputs) != 1 or len(function.results) != 1 or not function.steps:
            raise InvalidInput(
                f"{self.path}: a function of {len(function.inputs)} inputs and {len(function.results)} results"
            )
        return function

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        (declared,) = self.content.inputs
        return (_info("image" if len(declared.shape) == 4 else "text", declared),)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        last = self.content.steps[self.content.results[0] - 1]
        computed = last
        while isinstance(computed, MlxOperation) and computed.name == "AsType" and computed.inputs[0] > 0:
            computed = self.content.steps[computed.inputs[0] - 1]
        is_softmax = isinstance(computed, MlxOperation) and computed.name == "Softmax"
        declared = Declared("", ()) if isinstance(last, Value) else last.result
        return (_info("probabilities" if is_softmax else "embedding", declared),)

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        numbers = (step.numbers for step in self.content.steps if isinstance(step, Value))
        return counted(self.operators, ((value.dtype.name, value.nbytes) for value in numbers))

    @property
    def facts(self) -> dict[str, str]:
        """The device, and the MLX versions that read the form: loading a file checks neither."""
        device = f"{self.content.device.upper()} of Apple's chips; MLX never uses the Neural Engine"
        readers = "up to 0.32.1" if self.content.metadata is None else "0.32.2 and newer"
        return {"device": device, "read by": f"MLX {readers}"}

    @cached_property
    def graph(self) -> Graph:
        return _graph(self.content)

    @property
    def weight_table(self) -> WeightTable:
        return TABLE

    def runner(self) -> Runner:
        return self._running(wide=False)

    def plain_runner(self) -> Runner:
        return self._running(wide=True)

    def _running(self, wide: bool) -> Runner:
        function = self.content  # damage is reported before a missing MLX
        return runtime().MlxRunner(self.path, function, wide)


def runtime() -> Any:
    """Returns the module `targets.mlx.runner`, which imports MLX.

    Raises:
        NotRun: MLX is missing, or cannot be imported.
    """
    try:
        import mobileclip_deploy.targets.mlx.runner as runner
    except ImportError as error:
        raise NotRun(
            f"MLX runs these files and cannot be imported ({first_sentence(error)}); type: pip install "
            "'mobileclip-deploy[mlx]'"
        ) from error
    return runner


def _info(name: str, declared: Declared) -> TensorInfo:
    return TensorInfo(name, declared.dtype, declared.shape)


def _graph(function: MlxFunction) -> Graph:
    """Builds the graph. Its settings are those of the operations, with type and shape of each result. A single element
    that is broadcast to a shape counts as that element."""
    values: list[Input] = [Wire(None, index) for index in range(len(function.inputs))]
    nodes: list[Node] = []
    for index, step in enumerate(function.steps, start=len(values)):
        if isinstance(step, Value):
            values.append(Constant(step.numbers, f"value {index}"))
            continue
        inputs = tuple((str(position), values[operand]) for position, operand in enumerate(step.inputs))
        first = inputs[0][1] if inputs else None
        if step.name == "Broadcast" and isinstance(first, Constant) and first.values.size == 1:
            values.append(first)
            continue
        inverse = step.name == "Sqrt" and step.settings[0]
        settings: dict[str, Any] = {f"setting {position}": setting for position, setting in enumerate(step.settings)}
        settings |= {"type": step.result.dtype, "shape": step.result.shape}
        values.append(Wire(len(nodes)))
        nodes.append(Node("Rsqrt" if inverse else step.name, inputs, settings, f"value {index}"))
    ports = [f"{declared.dtype} {list(declared.shape)}" for declared in function.inputs]
    results = tuple(values[index] for index in function.results)
    settings_of_file = {"device": function.device, "metadata": function.metadata is not None}
    return Graph(tuple(ports), tuple(nodes), ("result",) * len(results), results, settings_of_file)


def _stored(view: View, number: int, name: str) -> StoredWeight | None:
    """Returns the weight of an operation, before a change of type, and before its transposition."""
    node = view.nodes[number]
    operands = dict(node.inputs)
    if node.type == "QuantizedMatmul":
        scale, zero = _grid(view, operands)
        return _integers(numbers_of(operands[name]), scale, node.settings["setting 1"], zero)
    if node.type == "Gather":
        gathers = [dict(gather.inputs) for gather in view.nodes if gather.type == "Gather"]
        tables = [
            elements
            for gather in gathers
            if gather["1"] == operands["1"] and (elements := numbers_of(gather["0"])) is not None
        ]
        packed = next((table for table in tables if table.dtype == np.uint32), None)
        if packed is not None:  # the same ids look up its scales, which are not a table
            (scales,) = [table for table in tables if table.dtype == np.float16]
            return _table(view, number, packed, scales) if numbers_of(operands["0"]) is packed else None
    value = _behind(view, operands[name], "AsType")
    values = numbers_of(value)
    if values is None or values.dtype.kind != "f":
        return None
    stored = as_float(value.name if isinstance(value, Constant) else "", values)
    if node.type == "Convolution":
        return turned(stored, 0, 3, 1, 2)
    return turned(stored, 1, 0) if node.type == "Matmul" and values.ndim == 2 else stored


TABLE = WeightTable(
    places={"Convolution": ("1",), "Matmul": ("1",), "QuantizedMatmul": ("1",), "Gather": ("0",)}, stored=_stored
)


def _behind(view: View, value: Input, kind: str) -> Input:
    """Returns the input of an operation of this kind if one computes the value; else the value."""
    node = view.producer(value)
    return node.inputs[0][1] if node is not None and node.type == kind else value


def _grid(view: View, given: dict[str, Input]) -> tuple[npt.NDArray[Any], float]:
    """Returns the scales of a product's integers, and the integer that means 0. The file stores the value of integer 0
    as a multiple of the scale."""
    scales, zeros = numbers_of(_behind(view, given["2"], "AsType")), view.producer(given["3"])
    factors = [] if zeros is None or zeros.type != "Multiply" else [value for _, value in zeros.inputs]
    numbers = [elements for value in factors if (elements := numbers_of(value)) is not None]
    if scales is None or given["2"] not in factors or len(numbers) != 1 or numbers[0].size != 1:
        raise Malformed("the grid of a product's integers")
    return scales, -float(numbers[0].reshape(-1)[0])


def _integers(packed: npt.NDArray[Any] | None, scales: npt.NDArray[Any], bits: int, zero: float) -> StoredWeight:
    """Decodes integers uint32 [O, I bits / 32] with scales [O, I / group]."""
    if packed is None or packed.ndim != 2 or scales.ndim != 2 or len(packed) != len(scales) or bits not in (4, 8):
        raise Malformed("the integers of a product")
    raw = packed.view(np.uint8)
    integers = unpack_int4(raw, 8).astype(np.int16) + 8 if bits == 4 else raw
    if integers.shape[1] % scales.shape[1]:
        raise Malformed("scales that do not fit its integers")
    step = spread(scales, integers.shape, integers.shape[1] // scales.shape[1])
    return on_grid("", Affine(step, bits, zero, signed=False), integers)


def _table(view: View, number: int, packed: npt.NDArray[Any], scale: npt.NDArray[Any]) -> StoredWeight:
    """Decodes a table of words. After its look-up, operations unpack the integers and subtract the one that means 0."""
    zeros: list[npt.NDArray[Any]] = []
    group = 1
    while (users := view.consumers(number)) and not zeros:
        (number,) = users
        numbers = [elements for _, value in view.nodes[number].inputs if (elements := numbers_of(value)) is not None]
        zeros = numbers if view.nodes[number].type == "Subtract" else []
        group = view.nodes[number].settings["shape"][-1] if view.nodes[number].type == "Reshape" else group
    return _integers(packed, scale, 32 * packed.shape[1] // (scale.shape[1] * group), float(zeros[0]))
