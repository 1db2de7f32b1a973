"""`ExecuTorchArtifact`: an opened .pte, and its method as a graph.

The graph's nodes are kernels and the operations inside XNNPACK's parts, linked by their data flow. Values are followed
through the planned memory: an operation reads what was last written to its memory, whatever the value's index.
"""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobileclip_deploy.errors import Malformed, reraising
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
from mobileclip_deploy.targets.executorch.coreml_payload import CoreMLPayloadRunner, payload_files
from mobileclip_deploy.targets.executorch.model_schema import check_schema
from mobileclip_deploy.targets.executorch.program_file import Fields, ProgramFile, count_of, dtype_of, numbers_of
from mobileclip_deploy.targets.executorch.runner import ExecuTorchSession, RuntimeRunner
from mobileclip_deploy.targets.executorch.weights import TABLE
from mobileclip_deploy.targets.executorch.xnnpack_payload import OUTPUT, XnnpackValue, read_part
from mobileclip_deploy.targets.flatbuffer import array, at, read_file
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire, needed
from mobileclip_deploy.targets.values import Runner, TensorInfo
from mobileclip_deploy.targets.weights import WeightTable

MOST_INSTRUCTIONS = 4096
CORE_ML = "CoreMLBackend"
VIEW = "executorch_prim::et_view.default"

Place = tuple[int, int, int]


class ExecuTorchArtifact(Artifact):
    """A .pte file with the single method `forward`.

    Args:
        readable: True if weights are located; they are in XNNPACK's parts and in kernels, not in other backends' parts.
    """

    def __init__(self, path: Path, function: str | None = None, *, readable: bool) -> None:
        super().__init__(path, function)
        self._readable = readable

    @cached_property
    def file(self) -> ProgramFile:
        """Contents of the file."""
        return read_file(self.path, ".pte", ProgramFile.parse)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self.file.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self.file.outputs

    @property
    def operators(self) -> dict[str, int]:
        """Number of delegates by backend, and of the operators outside of them. A delegate counts as one."""
        return {**self.contents["delegates"], **self.contents["operators_outside"]}

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """Delegates by backend, operators outside of them, and bytes by kind."""
        return {
            "delegates": dict(sorted(Counter(backend for backend, _ in self.file.delegates).items())),
            "operators_outside": dict(sorted(self.file.operators.items())),
            "bytes": self.file.bytes_by_kind,
        }

    @cached_property
    def graph(self) -> Graph:
        """Graph of the method. Features that no export here writes are refused: other methods, control flow, state,
        unused results."""
        with reraising(f"{self.path} is not a usable .pte file", Malformed, IndexError):
            return _Method(self.file).graph()

    @property
    def weight_table(self) -> WeightTable | None:
        return TABLE if self._readable else None

    def runner(self) -> Runner:
        """Loads a runner by the file's backends: this package's evaluator for Core ML's part, the wheel's runtime for
        others."""
        if self.file.backends == (CORE_ML,):
            return CoreMLPayloadRunner(self.path, self.file)
        return RuntimeRunner(self, torch.get_num_threads())

    def session(self, setup: SessionSetup) -> Session:
        return ExecuTorchSession(self.path, setup)


def _overlap(a: Place, b: Place) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


class _Method:
    """Interpreter of a method's instructions, which runs them once and records them as nodes."""

    def __init__(self, program: ProgramFile) -> None:
        fields = program.fields
        check_schema(program)
        if fields["mutable"]:
            raise Malformed("it has state")
        self._program, self._plan = program, program.plan
        self._constants, self._offsets = program.constants
        self._nodes: list[Node] = []
        # Current contents of the planned memory, and of values outside of it.
        self._held: dict[int, tuple[Place | None, Wire]] = {}
        self._places: dict[int, Place] = {}  # memory of views, which they share with other values
        self._taken: list[Place | None] = []  # memory that the current instruction reads or has written
        self._called: set[int] = set()

    def graph(self) -> Graph:
        """Returns the whole method as a graph."""
        inputs, outputs = self._plan["inputs"], self._plan["outputs"]
        for position, value in enumerate(inputs):
            self._write(value, self._place(value), Wire(None, position))
        chain = self._plan["chains"]
        if len(chain) != 1:
            raise Malformed(f"it has {len(chain)} chains of instructions")
        instructions = chain[0]["instructions"]
        if len(instructions) > MOST_INSTRUCTIONS:
            raise Malformed(f"it has {len(instructions):,} instructions")
        spans = [self._instruction(position, entry["call"]) for position, entry in enumerate(instructions)]
        graph = Graph(
            inputs=tuple(f"input_{i}: {self._spec(value)}" for i, value in enumerate(inputs)),
            nodes=tuple(self._nodes),
            outputs=tuple(f"output_{i}: {self._spec(value)}" for i, value in enumerate(outputs)),
            results=tuple(self._tensor(value) for value in outputs),
        )
        # No conversion writes instructions that no output needs, and they might overwrite needed values.
        used = set(needed(graph))
        for position, span in enumerate(spans):
            if used.isdisjoint(span):
                kinds = ", ".join(graph.nodes[index].type for index in span[:1])
                raise Malformed(f"instruction {position} ({kinds}) computes a value that no output needs")
        return graph

    def _instruction(self, number: int, entry: tuple[str, Fields] | None) -> range:
        """Adds one instruction. Returns the range of its nodes."""
        if entry is None:
            raise Malformed(f"instruction {number} is empty")
        first, (kind, call) = len(self._nodes), entry
        self._taken = []
        if kind == "KernelCall":
            self._kernel(number, call["args"], at(self._plan["operators"], call["index"], "operator"))
        elif kind == "DelegateCall":
            delegate = at(self._plan["delegates"], call["index"], "delegate")
            if call["index"] in self._called:
                raise Malformed(f"delegate {call['index']} is called twice")
            self._called.add(call["index"])
            run = self._xnnpack if delegate["id"] == "XnnpackBackend" else self._other_backend
            run(number, call["args"], delegate)
        else:
            raise Malformed(f"instruction {number} is a {kind}, not a call of a kernel or backend")
        return range(first, len(self._nodes))

    def _add(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _kernel(self, number: int, args: tuple[int, ...], operator: Fields) -> None:
        """Adds a kernel call. An out-variant's last arguments are its results, which it lists again as return
        values."""
        kind = ".".join(filter(None, (operator["name"], operator["overload"])))
        if not args:
            raise Malformed(f"{kind} has no arguments")
        results = self._items(args[-1], "TensorList") or (args[-1],)
        rest = args[:-1]
        if rest[-len(results) :] == results:
            rest = rest[: -len(results)]
        elif rest and self._items(rest[-1], "TensorList") == results:  # a split has the list as one argument
            rest = rest[:-1]
        inputs: list[tuple[str, Input]] = []
        settings: dict[str, Any] = {}
        for position, value in enumerate(rest):
            self._argument(f"argument {position}", value, inputs, settings)
        for position, value in enumerate(results):
            settings[f"result {position}"] = self._spec(value)
        node = self._add(Node(kind, tuple(inputs), settings, f"instruction {number}"))
        if kind == VIEW:
            place = self._place(rest[0])
            if place is not None:
                self._places[results[0]] = place
            self._held[results[0]] = place, Wire(node)
            return
        self._written(results, node)

    def _written(self, results: tuple[int, ...], node: int) -> None:
        for output, value in enumerate(results):
            place = self._place(value)
            if place and any(other and _overlap(other, place) for other in self._taken):
                raise Malformed(f"{self._nodes[node].name} overwrites its own input or output")
            if self._constant(value) is not None:
                raise Malformed(f"{self._nodes[node].name} overwrites a constant")
            self._write(value, place, Wire(node, output))
            self._taken.append(place)

    def _write(self, value: int, place: Place | None, wire: Wire) -> None:
        """Records the writing of a value, and forgets the values that it overwrites."""
        gone = [other for other, (memory, _) in self._held.items() if memory and place and _overlap(memory, place)]
        for other in gone:
            del self._held[other]
        self._held[value] = place, wire

    def _xnnpack(self, number: int, args: tuple[int, ...], delegate: Fields) -> None:
        values, operations = read_part(self._program.payload(delegate), self._program.named)
        name = f"instruction {number}"
        specs = {"compiled with": _compiled_with(delegate)} if delegate["specs"] else {}
        inputs_of: dict[int, Input] = {}
        for value, entry in values.items():
            if entry.numbers is not None:
                inputs_of[value] = Constant(entry.numbers, f"value {value}")
            elif entry.argument is not None and entry.flags != OUTPUT:
                argument = at(args, entry.argument, "argument")
                node_inputs: list[tuple[str, Input]] = [("x", self._tensor(argument))]
                settings: dict[str, Any] = {"takes": self._spec(argument), **specs}
                _describe("x", entry, node_inputs, settings)
                inputs_of[value] = Wire(self._add(Node("XNNPACK input", tuple(node_inputs), settings, name)))
        for position, (kind, sources, results, settings) in enumerate(operations):
            node_inputs = []
            for parameter, source in sources.items():
                if source is not None and source not in inputs_of:
                    raise Malformed(f"{name} reads value {source} before it is computed")
                node_inputs.append((parameter, None if source is None else inputs_of[source]))
                if source is not None and isinstance(inputs_of[source], Constant):
                    _describe(parameter, values[source], node_inputs, settings)
            for parameter, result in results.items():
                if result not in values:
                    raise Malformed(f"value {result} has a name, which XNNPACK values never have")
                _describe(parameter, values[result], node_inputs, settings)
            node = self._add(Node(kind, tuple(node_inputs), settings, f"{name}, node {position}"))
            for output, result in enumerate(results.values()):
                if result in inputs_of:
                    raise Malformed(f"{name} computes value {result} twice")
                inputs_of[result] = Wire(node, output)
        results_of = {entry.argument: value for value, entry in values.items() if entry.flags == OUTPUT}
        for argument, value in sorted((at(args, key or 0, "argument"), value) for key, value in results_of.items()):
            if value not in inputs_of:
                raise Malformed(f"{name} does not compute its result")
            settings = {"gives": self._spec(argument)}
            node = self._add(Node("XNNPACK output", (("x", inputs_of[value]),), settings, name))
            self._written((argument,), node)

    def _other_backend(self, number: int, args: tuple[int, ...], delegate: Fields) -> None:
        """Adds a delegate that is not parsed. Its payload is an opaque constant, and its unwritten arguments are its
        outputs.

        It may use any of the named data.
        """
        results = tuple(value for value in args if self._constant(value) is None and value not in self._held)
        payload = self._program.payload(delegate)
        files = payload_files(payload) if delegate["id"] == CORE_ML else {"part": payload}
        inputs: list[tuple[str, Input]] = [
            (name, Constant(array(data, np.uint8, len(data)), name))
            for name, data in (*sorted(files.items()), *sorted(self._program.named.items()))
        ]
        settings: dict[str, Any] = {"compiled with": _compiled_with(delegate)}
        for position, value in enumerate(args):
            settings[f"argument {position}"] = f"{self._spec(value)} at {self._place(value)}"
            if value not in results:
                inputs.append((f"argument {position}", self._tensor(value)))
        node = self._add(Node(delegate["id"], tuple(inputs), settings, f"instruction {number}"))
        self._written(results, node)

    def _argument(self, name: str, value: int, inputs: list[tuple[str, Input]], settings: dict[str, Any]) -> None:
        """Adds one argument of a kernel: tensors are inputs, the rest is text with its type."""
        kind, fields = self._value(value)
        if kind == "Tensor" or value in self._held:
            inputs.append((name, self._tensor(value)))
        elif kind in ("TensorList", "OptionalTensorList", "IntList"):
            settings[name] = f"{kind} of {len(fields['items'])}"
            for position, item in enumerate(fields["items"]):
                if item == -1 and kind == "OptionalTensorList":
                    inputs.append((f"{name}[{position}]", None))
                elif (item_kind := self._value(item)[0]) not in ("Tensor", "Int", "Null"):
                    raise Malformed(f"value {value} is a list of a {item_kind}")
                else:
                    self._argument(f"{name}[{position}]", item, inputs, settings)
        elif "items" in fields:
            settings[name] = f"{kind} {list(fields['items'])}"
        else:
            settings[name] = f"{kind} {fields.get('value')}"

    def _tensor(self, value: int) -> Input:
        """Returns the current content of a value."""
        constant = self._constant(value)
        if constant is not None:
            return constant
        place = self._place(value)
        self._taken.append(place)
        if value in self._held:
            return self._held[value][1]
        for memory, wire in self._held.values():
            if place is not None and memory == place:  # written as another value of the same size
                return Wire(self._add(Node("view", (("x", wire),), {"result 0": self._spec(value)}, f"value {value}")))
        raise Malformed(f"value {value} is read before it is computed, or after it was overwritten")

    def _constant(self, value: int) -> Constant | None:
        kind, fields = self._value(value)
        if kind != "Tensor" or not fields["data_buffer_idx"]:
            return None
        if fields["allocation"] is not None:
            raise Malformed(f"value {value} is state")
        start = at(self._offsets, fields["data_buffer_idx"], "constant")
        return Constant(numbers_of(fields, self._constants, start), f"constant {fields['data_buffer_idx']}")

    def _value(self, value: int) -> tuple[str, Fields]:
        entry = at(self._plan["values"], value, "value")["value"]
        if entry is None:
            raise Malformed(f"value {value} is empty")
        kind, fields = entry
        if kind == "Tensor":
            extra = fields["extra"]
            if fields["storage_offset"] or (extra and (extra["location"] or extra["device"] or extra["device_index"])):
                raise Malformed(f"value {value} is outside of the program's file and memory")
        return kind, fields

    def _items(self, value: int, kind: str) -> tuple[int, ...]:
        item_kind, fields = self._value(value)
        return fields["items"] if item_kind == kind else ()

    def _spec(self, value: int) -> str:
        kind, fields = self._value(value)
        if kind != "Tensor":
            return kind
        text = f"{dtype_of(fields).name} {list(fields['sizes'])}"
        if tuple(fields["dim_order"]) != tuple(range(len(fields["sizes"]))):
            text += f" in the order {list(fields['dim_order'])}"
        return text + (" or less" if fields["dynamism"] else "")

    def _place(self, value: int) -> Place | None:
        """Returns the memory of a value: index of the memory, first byte, and the byte after the last. None if it has
        no planned memory."""
        kind, fields = self._value(value)
        if value in self._places:
            return self._places[value]
        allocation = fields["allocation"] if kind == "Tensor" else None
        if allocation is None:
            return None
        start = allocation["low"] | allocation["high"] << 32
        return allocation["memory"], start, start + count_of(fields) * dtype_of(fields).itemsize


def _describe(parameter: str, value: XnnpackValue, inputs: list[tuple[str, Input]], settings: Fields) -> None:
    """Records a value of a part: its scales as a constant, since they may be rounded, the rest as settings."""
    settings[parameter] = value.description
    if value.scales is not None:
        inputs.append((f"{parameter} scale", Constant(value.scales)))
    if value.zero_point is not None:
        settings[f"{parameter} zero point"] = value.zero_point


def _compiled_with(delegate: Fields) -> list[str]:
    return [f"{spec['key']}={spec['value'].hex()}" for spec in delegate["specs"]]
