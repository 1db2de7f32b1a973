"""A loaded ML program: its description, and its evaluation in torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.targets.mil.constants import MilConstant, WeightFile
from mobileclip_deploy.targets.mil.description import Operation, describe_operation, describe_weights
from mobileclip_deploy.targets.mil.graph import Fixed, Graph, Operand, ValueReference, read_graph, without_quantization
from mobileclip_deploy.targets.mil.package import open_package
from mobileclip_deploy.targets.mil.plan import Step, call, check_shapes, make_plan, unsupported
from mobileclip_deploy.targets.mil.ports import read_input, read_ports, write_output

Precision = Literal["float32", "float16"]
# A small package may always keep this: decompressing its table for every prompt takes longer than all the rest.
_ALWAYS_KEPT = 64 * 2**20
_KEPT_SHARE = 0.5  # of the size of the package; see ConstantStore
_SMALL = 2**16  # bytes; such values are always kept
_AT_ONCE = 16


@dataclass(frozen=True)
class Computed:
    """Results of an operation.

    Attributes:
        operation: the operation.
        values: its results by name, as numpy arrays (a label or dictionary for a classifier's head).
    """

    operation: Operation
    values: Mapping[str, Any]


class ConstantStore:
    """Cache of the tensors of constants.

    float32 weights are views of the file. float16 weights are converted to float32 for arithmetic, and compressed
    weights are decompressed. Both cost time, so results are kept while they fit the budget, and computed again
    otherwise. A compressed weight is kept in its declared type, since the conversion to float32 is the cheap part.
    """

    def __init__(self, budget: int) -> None:
        """Creates a store that keeps up to `budget` bytes."""
        self._left = budget
        self._kept: dict[tuple[int, bool], torch.Tensor] = {}

    def tensor(self, value: Fixed, stored: bool) -> torch.Tensor:
        """Returns the tensor in the type for arithmetic, float16 in float32. With `stored` it is as stored or
        decompressed, float16 as such.

        Raises:
            InvalidInput: it cannot be read or decompressed.
        """
        key = (id(value), stored)
        if key in self._kept:
            return self._kept[key]
        if stored:
            tensor, costly = value.tensor(), not isinstance(value, MilConstant)
        else:
            raw = self.tensor(value, True)
            tensor = raw.to(value.type.dtype.compute)
            costly = tensor is not raw and isinstance(value, MilConstant)
        size = tensor.numel() * tensor.element_size()
        if costly and (size <= _SMALL or size <= self._left):
            self._left -= size if size > _SMALL else 0
            self._kept[key] = tensor
        return tensor


class Program:
    """An ML program of a .mlpackage, made by `load`.

    Attributes:
        path: of the package.
        function: the name of this function.
        functions: the names of all functions of the package.
        default_function: the one that runs if none is named.
        opset: of the function, such as "CoreML7", which is that of iOS 17.
        specification_version: of the package.
        metadata: author, license, version, description and other notes of its writer.
        inputs: descriptions of the inputs.
        outputs: descriptions of the outputs.
        operations: the operations that run, in order.
        weights: the constants that operations take as tensors.
        unsupported: op types that the evaluator does not define -> names of their operations.
        graph: source of the above: constants, and operations in the order of `operations`.
        specification: other facts that decide how the package is run, in protobuf's text: the type of each input,
            output and state, and the package's version, functions and the like.
    """

    def __init__(self, path: Path, model: Any, function: str, graph: Graph, size: int) -> None:
        """Builds a program; callers use `load`. `size`: of the package in bytes."""
        self.path = path
        self.function = function
        self.functions = tuple(sorted(model.mlProgram.functions))
        self.default_function = _default_function(model)
        self.opset = str(model.mlProgram.functions[function].opset)
        self.specification_version = int(model.specificationVersion)
        self.metadata = _metadata(model.description.metadata)
        self.operations = tuple(map(describe_operation, graph.nodes))
        self.weights = describe_weights(graph)
        self.unsupported = unsupported(graph)
        self.graph = graph
        self._types = {name: declared for node in graph.nodes for name, declared in node.outputs} | {
            name: value.type for name, value in graph.fixed.items()
        }
        self._types |= graph.inputs
        features = _features(model, function)
        self.specification = _specification(model, features)
        results = {name: self._types[name] for name in graph.outputs}
        self.inputs = read_ports(features.input, dict(graph.inputs), graph, True)
        self.outputs = read_ports(features.output, results, graph, False)
        self._model, self._size = model, size
        self._store = ConstantStore(max(_ALWAYS_KEPT, int(size * _KEPT_SHARE)))

    @property
    def arithmetic(self) -> Precision:
        """Declared arithmetic of its results: float16 if one is."""
        half = any(out.dtype == "float16" for operation in self.operations for out in operation.outputs)
        return "float16" if half else "float32"

    def prepared(self) -> Self:
        """Returns the program itself, ready for evaluation; it may have been loaded for inspection only.

        Raises:
            InvalidInput: the program contradicts itself.
            UnsupportedOperation: (an InvalidInput) it contains ops that the evaluator does not define; they are listed.
        """
        self._steps  # noqa: B018  (computed once)
        return self

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        steps = make_plan(self.graph)
        check_shapes(self.graph, steps)
        return steps

    def without_quantization(self) -> Program:
        """Returns the same program without `quantize` and `dequantize`, ready for evaluation.

        Raises:
            InvalidInput: as `prepared`.
        """
        graph = without_quantization(self.graph)
        return Program(self.path, self._model, self.function, graph, self._size).prepared()

    def __call__(self, inputs: Mapping[str, Any], precision: Precision = "float32") -> dict[str, Any]:
        """Evaluates the program.

        Args:
            inputs: a value for each input: for an image uint8 [H, W, 3] in RGB order, without scaling, which the
                program does; otherwise numbers in the shape of the port. numpy arrays, torch tensors or nested lists.
            precision: "float32": arithmetic in float32, float16 results not rounded. "float16": every result that is
                declared float16 is rounded to float16, sums are accumulated in float32. Constants are as written in the
                package either way, compressed ones as decompressed to their declared type.

        Returns:
            Each output as a numpy array in its declared type (float16 ones in float32 if they were not rounded); a
                classifier's label as text or int and its probabilities as a dict.

        Raises:
            InvalidInput: an input is missing, unknown or of another shape or type; or the program contradicts itself.
            UsageError: no such precision.
        """
        values = self._start(inputs, precision)
        outputs = self._outputs(values, precision)
        return {name: write_output(value, self._types[name], precision) for name, value in outputs.items()}

    def many(self, inputs: Sequence[Mapping[str, Any]], precision: Precision = "float32") -> dict[str, Any]:
        """Evaluates the program on many inputs, in batches by vmap, which for small ones takes a third of the time.

        Args:
            inputs: one or more, each as for a call, and all of one shape.
            precision: as for a call.

        Returns:
            Each output as for a call, with one dimension more in front: [N, *shape]. The last bits of a sum may differ
                from a call's, which adds in another order.

        Raises:
            InvalidInput: as for a call; or an output is a label or a dictionary.
        """
        if any(self._types[name].kind != "tensor" for name in self.graph.outputs):
            raise InvalidInput("a classifier is evaluated on one input at a time")
        arrays: dict[str, list[Any]] = {name: [] for name in self.graph.outputs}
        for first in range(0, len(inputs), _AT_ONCE):
            started = [self._start(one, precision) for one in inputs[first : first + _AT_ONCE]]
            if len(started) == 1:  # vmap takes a quarter longer for one input
                outputs = {name: value[None] for name, value in self._outputs(started[0], precision).items()}
            else:
                stacked = {name: torch.stack([one[name] for one in started]) for name in started[0]}
                outputs = torch.vmap(lambda values: self._outputs(dict(values), precision))(stacked)
            for name, value in outputs.items():
                arrays[name].append(write_output(value, self._types[name], precision))
        return {name: np.concatenate(values) for name, values in arrays.items()}

    def _outputs(self, values: dict[str, Any], precision: Precision) -> dict[str, Any]:
        for _ in self._run(values, precision):
            pass
        return {
            name: values[name] if name in values else self._store.tensor(self.graph.fixed[name], stored=False)
            for name in self.graph.outputs
        }

    def trace(
        self, inputs: Mapping[str, Any], precision: Precision = "float32", names: Collection[str] | None = None
    ) -> Iterator[Computed]:
        """Evaluates the program and yields the results of each operation as they are computed.

        Args:
            inputs: as for a call.
            precision: as for a call.
            names: the requested values; evaluation ends with the last of them. All when absent.

        Yields:
            One item per operation that has a requested result, in program order.

        Raises:
            InvalidInput: as for a call, or a name is not the result of an operation.
        """
        waiting = None if names is None else set(names)
        computed = {name for node in self.graph.nodes for name, _ in node.outputs}
        if waiting is not None and waiting - computed:
            raise InvalidInput(f"no operation of the program computes {', '.join(sorted(waiting - computed))}")
        if waiting is not None and not waiting:
            return
        values = self._start(inputs, precision)
        for index, results in self._run(values, precision):
            requested = {name: value for name, value in results.items() if waiting is None or name in waiting}
            if requested:
                arrays = {name: write_output(value, self._types[name], precision) for name, value in requested.items()}
                yield Computed(self.operations[index], arrays)
            if waiting is not None:
                waiting -= set(requested)
                if not waiting:
                    return

    def constant(self, name: str) -> npt.NDArray[Any]:
        """Returns a named constant, decompressed, as the operations see it.

        Raises:
            InvalidInput: unknown name, or it cannot be decompressed.
        """
        if name not in self.graph.fixed:
            raise InvalidInput(f"the program has no constant {name!r}")
        return np.array(self.graph.fixed[name].array())

    def _start(self, inputs: Mapping[str, Any], precision: Precision) -> dict[str, Any]:
        self.prepared()
        if precision not in ("float32", "float16"):
            raise UsageError(f"there is no precision {precision!r}; known are float32, float16")
        ports = {port.name: port for port in self.inputs}
        unknown = sorted(set(inputs) - set(ports))
        missing = sorted(set(ports) - set(inputs))
        if unknown or missing:
            raise InvalidInput(f"the program's inputs are {sorted(ports)}; missing {missing}, unknown {unknown}")
        values = {}
        for name, port in ports.items():
            declared = self.graph.inputs[name]
            value = read_input(inputs[name], port, declared)
            values[name] = _rounded(value) if precision == "float16" and declared.dtype.name == "float16" else value
        return values

    def _run(self, values: dict[str, Any], precision: Precision) -> Iterator[tuple[int, dict[str, Any]]]:
        """Runs step by step; `values` contains the inputs, then all live values, and at the end the outputs."""

        def lookup(operand: Operand, stored: bool) -> Any:
            return values[operand.name] if isinstance(operand, ValueReference) else self._store.tensor(operand, stored)

        for index, step in enumerate(self._steps):
            with torch.inference_mode():
                results = dict(zip((name for name, _ in step.node.outputs), call(step, lookup), strict=True))
                if precision == "float16" and not step.kernel.exact:
                    for name, declared in step.node.outputs:
                        if declared.dtype.name == "float16" and declared.kind == "tensor":
                            results[name] = _rounded(results[name])
            values.update(results)
            yield index, results
            for name in step.last:
                values.pop(name, None)


def _rounded(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.float16).to(torch.float32)


def _metadata(message: Any) -> dict[str, str]:
    named = {
        "short_description": message.shortDescription,
        "version": message.versionString,
        "author": message.author,
        "license": message.license,
    }
    return {key: str(value) for key, value in named.items() if value} | dict(message.userDefined)


def _default_function(model: Any) -> str:
    return str(model.description.defaultFunctionName or "main")


def _specification(model: Any, features: Any) -> dict[str, str]:
    from google.protobuf.text_format import MessageToString

    facts = {
        "specification version": str(model.specificationVersion),
        "updatable": str(model.isUpdatable),
        "predicted feature": features.predictedFeatureName,
        "predicted probabilities": features.predictedProbabilitiesName,
    }
    for kind in ("input", "output", "state"):
        for feature in getattr(features, kind):
            facts[f"{kind} {feature.name}"] = MessageToString(feature.type, as_one_line=True)
    return facts


def _features(model: Any, function: str) -> Any:
    """Returns the message that describes the inputs and outputs of a function."""
    listed = {item.name: item for item in model.description.functions}
    if not listed:
        return model.description
    if function not in listed:
        raise InvalidInput(f"the package describes the functions {sorted(listed)}, not {function!r}")
    return listed[function]


def load(path: str | Path, function: str | None = None, evaluate: bool = True) -> Program:
    """Loads an ML program from a .mlpackage.

    Args:
        path: the package folder.
        function: the function of a package of several; its default function when absent.
        evaluate: prepare for evaluation at once. Otherwise only the descriptions are read, which also works for a
            program with ops that the evaluator does not define.

    Returns:
        The program. Weights stay in the file until they are used.

    Raises:
        InvalidInput: the package is corrupt, not an ML program, or has no such function.
        UnsupportedOperation: (an InvalidInput) it contains ops that the evaluator does not define; they are listed.
        DependencyMissing: coremltools, whose protobuf classes are used, is not installed.
    """
    package = open_package(path)
    model = package.specification
    if model.WhichOneof("Type") != "mlProgram":
        raise InvalidInput(f"{path} holds a {model.WhichOneof('Type') or 'model of no type'}, not an ML program")
    functions = model.mlProgram.functions
    name = function or _default_function(model)
    if name not in functions:
        raise InvalidInput(f"{path} has the functions {sorted(functions)}, not {name!r}")
    weights = cache(lambda file: WeightFile(package.data_file(file)))
    graph = read_graph(functions[name], name, weights)
    program = Program(Path(path), model, name, graph, artifact_bytes(Path(path)))
    return program.prepared() if evaluate else program
