"""`CoreMLArtifact`: an opened package with its declarations, and its program as a graph independent of names.

Its quantized values are traced by this package's evaluator, which computes in float32 between them.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, reraising
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.coreml.options import allowed_units
from mobileclip_deploy.targets.coreml.runner import CoreMLRunner, CoreMLSession, EvaluatorRunner, feeds
from mobileclip_deploy.targets.coreml.weights import table_of
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.targets.inspection import FunctionInspection, PackageInspection, StoredTensor
from mobileclip_deploy.targets.mil import Operation, Port, Program, load
from mobileclip_deploy.targets.mil.constexpr import Decompressed
from mobileclip_deploy.targets.mil.graph import Operand, ValueReference
from mobileclip_deploy.targets.quantized import QuantizedFile, QuantizeOps, quantized_values
from mobileclip_deploy.targets.quiet import quiet
from mobileclip_deploy.targets.values import Runner, TensorInfo
from mobileclip_deploy.targets.weights import WeightTable


class CoreMLArtifact(Artifact):
    """A .mlpackage, or one function of it."""

    has_functions = True

    @cached_property
    def program(self) -> Program:
        with quiet():
            return load(self.path, self.function, evaluate=False)

    @cached_property
    def unquantized(self) -> Program:
        """Program without its `quantize` and `dequantize` operations, ready for evaluation."""
        return self.program.without_quantization()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(map(_info, self.program.prepared().inputs))

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        ports = self.program.prepared().outputs
        if [port.kind for port in ports] == ["label", "probabilities"]:
            ports = ports[1:]
        return tuple(map(_info, ports))

    @property
    def operators(self) -> dict[str, int]:
        return dict(Counter(operation.type for operation in self.program.operations))

    @property
    def inspection(self) -> PackageInspection:
        """Report of all functions. `bytes` is the size on disk; a weight that functions share is counted in each."""
        first, path = self.program, self.path
        programs = [first if name == first.function else load(path, name, evaluate=False) for name in first.functions]
        return PackageInspection(
            kind="coreml artifact",
            title="Core ML package",
            bytes=artifact_bytes(path),
            specification_version=first.specification_version,
            deployment_target=OPSETS.get(first.opset, first.opset),
            metadata=dict(first.metadata),
            functions={program.function: _function(program) for program in programs},
        )

    @cached_property
    def graph(self) -> Graph:
        """Graph of the program: `nodes[n]` is `program.operations[n]`.

        A compressed weight is not an operation. Each of its stored parts (`weight.indices`, `weight.lut`) is an input
        of the operation that takes it. Text, such as `pad_type`, is a setting.
        """
        program, expected = self.program, ("main",) if self.function is None else TOWERS
        # A tower's package has one function. A package of both towers has one for each; the first is the default.
        if set(program.functions) != set(expected) or program.default_function != expected[0]:
            actual = f"{', '.join(program.functions)}, without a name {program.default_function}"
            requirement = f"expected {', '.join(expected)}, first the default"
            raise InvalidInput(f"{self.path} has the functions {actual}; {requirement}")
        return _Reader(program).graph()

    @property
    def weight_table(self) -> WeightTable:
        return table_of(self.program)

    def runner(self) -> Runner:
        """Loads Core ML on macOS, the evaluator elsewhere; the runner's `engine` names it."""
        if sys.platform == "darwin":
            return CoreMLRunner(self.path, allowed_units()[-1], self.function)
        return EvaluatorRunner(self.program.prepared())

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """Yields loaders of Core ML on each of the `allowed_units` on macOS, and of the evaluator elsewhere."""
        if sys.platform == "darwin":
            yield from (partial(CoreMLRunner, self.path, unit, self.function) for unit in allowed_units())
        else:
            yield self.runner

    def plain_runner(self) -> Runner:
        return EvaluatorRunner(self.unquantized, plain=True)

    def quantized(self) -> QuantizedFile:
        return QuantizedProgram(self)

    def session(self, setup: SessionSetup) -> Session:
        return CoreMLSession(self.path, setup, self.function)


def _info(port: Port) -> TensorInfo:
    """Returns a port with the type that an app sees."""
    shape = tuple(size or 0 for size in port.shape)
    if port.kind == "image":
        return TensorInfo(port.name, "uint8", shape, (0.0, 255.0), port.colour)
    if port.kind == "probabilities":
        return TensorInfo(port.name, "dictionary", ())
    return TensorInfo(port.name, port.dtype, shape)


class _Reader:
    """Operations and constants of a program, and the producers of its values."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.wires = {name: Wire(None, position) for position, name in enumerate(program.graph.inputs)}
        for index, node in enumerate(program.graph.nodes):
            self.wires |= {name: Wire(index, position) for position, (name, _) in enumerate(node.outputs)}

    def graph(self) -> Graph:
        source = self.program.graph
        nodes = []
        for node in source.nodes:
            results = ", ".join(str(declared) for _, declared in node.outputs)
            inputs, texts = self._inputs(
                {
                    # A single value keeps its name, several get an index: a `concat` takes any number of `values`.
                    parameter if len(bound) == 1 else f"{parameter}.{index}": operand
                    for parameter, bound in sorted(node.operands.items())
                    for index, (_, operand) in enumerate(bound)
                }
            )
            nodes.append(Node(node.kind, inputs, {**texts, "result": results}, node.name))
        return Graph(
            inputs=tuple(f"{name} {declared}" for name, declared in source.inputs.items()),
            nodes=tuple(nodes),
            outputs=tuple(source.outputs),
            results=tuple(self._result(name) for name in source.outputs),
            settings={"opset": self.program.opset, **self.program.specification},
            names={wire: name for name, wire in self.wires.items()},
        )

    def _result(self, name: str) -> Input:
        return self.wires[name] if name in self.wires else Constant(self.program.constant(name))

    def _inputs(self, operands: dict[str, Operand]) -> tuple[tuple[tuple[str, Input], ...], dict[str, Any]]:
        """Returns tensor inputs by name, and settings: text, compression of weights, types below a byte."""
        inputs: list[tuple[str, Input]] = []
        settings: dict[str, Any] = {}
        for name, operand in operands.items():
            if isinstance(operand, ValueReference):
                inputs.append((name, self.wires[operand.name]))
            elif isinstance(operand, Decompressed):
                parts = {f"{name}.{part}": value for part, value in sorted(operand.source.operands.items())}
                more, texts = self._inputs(dict(parts))
                inputs += more
                settings |= texts | {name: f"{operand.source.kind}, result {operand.index}, {operand.type}"}
            elif operand.type.kind != "tensor":
                settings[name] = operand.immediate
            elif operand.type.dtype.kind == "string":
                settings[name] = operand.array().tolist()
            else:
                inputs.append((name, Constant(np.asarray(operand.array()))))
                if operand.type.dtype.bits < 8:  # numpy has no such type: each element has a whole byte
                    settings[name] = str(operand.type)
        return tuple(inputs), settings


OPSETS = {f"CoreML{number}": f"iOS{number + 10}" for number in range(3, 9)}
# Types in order of width: an operation with results of several types computes in the widest.
CLASSES = ("float64", "float32", "float16", "int32", "int16", "int8", "uint8", "bool")


def _function(program: Program) -> FunctionInspection:
    weights = [
        (
            weight.kind if weight.kind != "const" else f"const {weight.dtype}",
            StoredTensor.of(weight.name, weight.shape, weight.dtype, weight.kind, weight.bytes),
        )
        for weight in program.weights
    ]
    return FunctionInspection.of(
        (program.inputs, program.outputs),
        (operation.type for operation in program.operations),
        map(_precision, program.operations),
        weights,
        {kind: len(names) for kind, names in program.unsupported.items()},
    )


def _precision(operation: Operation) -> str:
    """Returns the type that an operation computes in: a comparison of integers counts as integers, although its result
    is bool."""
    dtypes = {result.dtype for result in operation.outputs}
    if dtypes == {"bool"}:
        dtypes |= {argument.dtype for bound in operation.inputs.values() for argument in bound if not argument.constant}
    return next((dtype for dtype in CLASSES if dtype in dtypes), ", ".join(sorted(dtypes)))


def _limits(node: Node) -> tuple[int, int]:
    ends = np.iinfo(node.settings["result"].partition("[")[0])
    return int(ends.min), int(ends.max)


PAIR = QuantizeOps(
    quantize=("quantize", "input", "scale", "zero_point"),
    dequantize=("dequantize", "input", "scale", "zero_point"),
    shapes=("reshape", "transpose", "squeeze", "expand_dims", "cast", "identity"),
    limits=_limits,
    sums=("add", "sub"),
    tolerance=2**-9,  # of scales in float16: one rounding each, and one of their quotient
)


class QuantizedProgram(QuantizedFile):
    """A package with `quantize` operations."""

    def __init__(self, artifact: CoreMLArtifact) -> None:
        self._quantized, self._plain = artifact.program.prepared(), artifact.unquantized
        with reraising(f"{artifact.path}: its quantized values cannot be read", KeyError, ValueError):
            self.values = tuple(quantized_values(artifact.graph, PAIR))
        self.bias_steps: Mapping[str, Floats] = {}
        self.engine = "mobileclip_deploy.mil (float32 arithmetic; not Core ML)"

    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        return {name: value.astype(np.float32) for name, value in _computed(self._plain, row, self.followed).items()}

    def quantized(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        result = self._quantized.outputs[-1].name
        values = _computed(self._quantized, row, [result, *(value.name for value in self.values)])
        return values[result].astype(np.float32), values


def _computed(program: Program, row: npt.NDArray[np.generic], names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    (fed,) = feeds(program, row)
    steps = program.trace(fed, names=frozenset(names))
    return {name: np.asarray(value) for step in steps for name, value in step.values.items()}
