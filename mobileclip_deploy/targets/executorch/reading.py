"""A .pte as a graph: kernels, and the operations inside of XNNPACK's parts, by what flows from one to the next.

Values are followed through the planned memory: what an operation reads is what was last written where it reads, not
what a value's number says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.executorch.coreml_payload import payload_files
from mobileclip_deploy.targets.executorch.program_file import HEADER_MAGIC, IDENTIFIER
from mobileclip_deploy.targets.executorch.xnnpack_payload import OUTPUT, Value, read_part
from mobileclip_deploy.targets.flatbuffer import Decoder, Malformed, array, read, root
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire

__all__ = ["read_graph"]

VALUES = {
    "Null": "",
    "Int": "value:q",
    "Bool": "value:?",
    "Double": "value:d",
    "Tensor": "scalar_type:b storage_offset:i sizes:[i] dim_order:[B] requires_grad:? data_buffer_idx:I "
    "allocation:Allocation layout:b dynamism:b extra:Extra",
    "String": "value:text",
    "IntList": "items:[q]",
    "DoubleList": "items:[d]",
    "BoolList": "items:[?]",
    "TensorList": "items:[i]",
    "OptionalTensorList": "items:[i]",
}
CALLS = {
    "KernelCall": "index:i args:[i]",
    "DelegateCall": "index:i args:[i]",
    "MoveCall": "move_from:i move_to:i",
    "JumpFalseCall": "cond_value_index:i destination_instruction:i",
    "FreeCall": "value_index:i",
}
SCHEMAS = {
    **VALUES,
    **CALLS,
    "Program": "version:I plans:[Plan] constant_buffer:[Blob] inline:[Blob] segments:[Segment] constants:Offsets "
    "mutable:[Offsets] named_data:[Named]",
    "Plan": "name:text containers:Containers values:[EValue] inputs:[i] outputs:[i] chains:[Chain] "
    "operators:[Operator] delegates:[Delegate] buffer_sizes:[q] buffer_devices:[Device]",
    "Containers": "inputs:text outputs:text",
    "EValue": f"value:{'|'.join(VALUES)}",
    "Allocation": "memory:I low:I high:I",
    "Extra": "mutable_segment:Q name:text location:b device:b device_index:b",
    "Chain": "inputs:[i] outputs:[i] instructions:[Instruction] stacktrace:[Frames]",
    "Instruction": f"call:{'|'.join(CALLS)}",
    "Frames": "items:[Frame]",
    "Frame": "filename:text lineno:i name:text context:text",
    "Operator": "name:text overload:text",
    "Delegate": "id:text processed:Reference specs:[Spec]",
    "Reference": "location:b index:I",
    "Spec": "key:text value:[B]",
    "Device": "buffer:i device:b device_index:b",
    "Blob": "data:[B]",
    "Segment": "offset:Q size:Q",
    "Offsets": "segment:I offsets:[Q]",
    "Named": "key:text segment:I",
}
# ScalarType of ExecuTorch's and torch's schema.
DTYPES = {0: "u1", 1: "i1", 2: "<i2", 3: "<i4", 4: "<i8", 5: "<f2", 6: "<f4", 7: "<f8", 11: "?"}
MOST_INSTRUCTIONS = 4096
CORE_ML = "CoreMLBackend"
VIEW = "executorch_prim::et_view.default"

Fields = dict[str, Any]
Place = tuple[int, int, int]


def read_graph(path: Path) -> Graph:
    """The method `forward` of a .pte.

    Raises:
        InvalidInput: it is missing, of another format, cut off or damaged, or holds what nothing written here holds:
            other methods, control flow, state, operations whose results nothing needs.
    """
    try:
        return _Method(_Program.read(path.read_bytes())).graph()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except (Malformed, IndexError) as error:
        raise InvalidInput(f"{path} is not a usable .pte file: {error}") from error


@dataclass(frozen=True)
class _Program:
    """The one method of a file and the data behind it."""

    plan: Fields
    inline: tuple[bytes, ...]
    segments: tuple[bytes, ...]
    constants: bytes
    offsets: tuple[int, ...]
    named: Mapping[str, bytes]

    @classmethod
    def read(cls, data: bytes) -> _Program:
        fields = Decoder(SCHEMAS, data).table(root(data, IDENTIFIER), "Program")
        base = read(data, "<Q", 24) if data[8:12] == HEADER_MAGIC else 0
        places = [(base + segment["offset"], segment["size"]) for segment in fields["segments"]]
        if any(start + size > len(data) for start, size in places):
            raise Malformed("it is cut off")
        segments = tuple(data[start : start + size] for start, size in places)
        if [plan["name"] for plan in fields["plans"]] != ["forward"]:
            raise Malformed(f"its methods are {', '.join(str(plan['name']) for plan in fields['plans'])}, not forward")
        if fields["mutable"]:
            raise Malformed("it holds state")
        constants = fields["constants"] or {"segment": 0, "offsets": ()}
        named = {entry["key"]: _at(segments, entry["segment"], "segment") for entry in fields["named_data"]}
        if len(named) != len(fields["named_data"]):
            raise Malformed("two of its data have one name")
        return cls(
            plan=fields["plans"][0],
            inline=tuple(blob["data"] for blob in fields["inline"]),
            segments=segments,
            constants=_at(segments, constants["segment"], "segment") if constants["offsets"] else b"",
            offsets=constants["offsets"],
            named=named,
        )

    def payload(self, delegate: Fields) -> bytes:
        """What a delegate was compiled to."""
        reference = delegate["processed"] or {"location": 0, "index": len(self.inline)}
        held = self.segments if reference["location"] else self.inline
        return _at(held, reference["index"], f"part compiled for {delegate['id']}")


def _at(held: Any, index: int, what: str) -> Any:
    if not 0 <= index < len(held):
        raise Malformed(f"{what} {index} of {len(held)} is named")
    return held[index]


@dataclass
class _Memory:
    """What stands in the planned memory, and in values that lie outside of it, while the method runs."""

    held: dict[int, tuple[Place | None, Wire]] = field(default_factory=dict)

    def write(self, value: int, place: Place | None, wire: Wire) -> None:
        """A value is written; those that it is written over are gone."""
        gone = [other for other, (taken, _) in self.held.items() if taken and place and _overlap(taken, place)]
        for other in gone:
            del self.held[other]
        self.held[value] = place, wire

    def find(self, value: int, place: Place | None) -> tuple[Wire, bool] | None:
        """What stands where a value lies, and whether it was written as another value of the same size there."""
        if value in self.held:
            return self.held[value][1], False
        for taken, wire in self.held.values():
            if place is not None and taken == place:
                return wire, True
        return None


def _overlap(a: Place, b: Place) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


class _Method:
    """Follows the instructions once, and keeps what they do as nodes."""

    def __init__(self, program: _Program) -> None:
        self._program, self._plan = program, program.plan
        self._memory, self._nodes = _Memory(), list[Node]()
        self._places: dict[int, Place] = {}  # of values that a view laid on others
        self._taken: list[Place | None] = []  # what the instruction at hand reads or has written
        self._called: set[int] = set()

    def graph(self) -> Graph:
        """The whole method."""
        inputs, outputs = self._plan["inputs"], self._plan["outputs"]
        for number, value in enumerate(inputs):
            self._memory.write(value, self._place(value), Wire(None, number))
        chain = self._plan["chains"]
        if len(chain) != 1:
            raise Malformed(f"it has {len(chain)} chains of instructions")
        instructions = chain[0]["instructions"]
        if len(instructions) > MOST_INSTRUCTIONS:
            raise Malformed(f"it has {len(instructions):,} instructions")
        spans = [self._instruction(number, entry["call"]) for number, entry in enumerate(instructions)]
        graph = Graph(
            inputs=tuple(f"input_{i}: {self._spec(value)}" for i, value in enumerate(inputs)),
            nodes=tuple(self._nodes),
            outputs=tuple(f"output_{i}: {self._spec(value)}" for i, value in enumerate(outputs)),
            results=tuple(self._tensor(value) for value in outputs),
        )
        _refuse_unused(graph, spans)
        return graph

    def _instruction(self, number: int, entry: tuple[str, Fields] | None) -> range:
        """The nodes of one instruction."""
        if entry is None:
            raise Malformed(f"instruction {number} is nothing")
        first, (kind, call) = len(self._nodes), entry
        self._taken = []
        if kind == "KernelCall":
            self._kernel(number, call["args"], _at(self._plan["operators"], call["index"], "operator"))
        elif kind == "DelegateCall":
            delegate = _at(self._plan["delegates"], call["index"], "delegate")
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
        """An out-variant takes its results last, and names them once more as what it returns."""
        kind = ".".join(filter(None, (operator["name"], operator["overload"])))
        if not args:
            raise Malformed(f"{kind} takes nothing")
        results = self._items(args[-1], "TensorList") or (args[-1],)
        rest = args[:-1]
        if rest[-len(results) :] == results:
            rest = rest[: -len(results)]
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
            self._memory.held[results[0]] = place, Wire(node)
            return
        self._written(results, node)

    def _written(self, results: tuple[int, ...], node: int) -> None:
        for output, value in enumerate(results):
            place = self._place(value)
            if place and any(other and _overlap(other, place) for other in self._taken):
                raise Malformed(f"{self._nodes[node].name} writes over what it reads or writes")
            if self._constant(value) is not None:
                raise Malformed(f"{self._nodes[node].name} writes over a constant")
            self._memory.write(value, place, Wire(node, output))
            self._taken.append(place)

    def _xnnpack(self, number: int, args: tuple[int, ...], delegate: Fields) -> None:
        part = read_part(self._program.payload(delegate), self._program.named)
        name = f"instruction {number}"
        specs = {"compiled with": _compiled_with(delegate)} if delegate["specs"] else {}
        found: dict[int, Input] = {}
        for value, entry in part.values.items():
            if entry.numbers is not None:
                found[value] = Constant(entry.numbers, f"value {value}")
            elif entry.argument is not None and entry.flags != OUTPUT:
                argument = _at(args, entry.argument, "argument")
                given: list[tuple[str, Input]] = [("x", self._tensor(argument))]
                settings: dict[str, Any] = {"takes": self._spec(argument), **specs}
                _describe("x", entry, given, settings)
                found[value] = Wire(self._add(Node("XNNPACK input", tuple(given), settings, name)))
        for position, operation in enumerate(part.operations):
            given, settings = [], dict(operation.settings)
            for parameter, source in operation.inputs.items():
                if source is not None and source not in found:
                    raise Malformed(f"{name} reads value {source} before it is computed")
                given.append((parameter, None if source is None else found[source]))
                if source is not None and isinstance(found[source], Constant):
                    _describe(parameter, part.values[source], given, settings)
            for parameter, result in operation.outputs.items():
                _describe(parameter, _at_key(part.values, result), given, settings)
            node = self._add(Node(operation.type, tuple(given), settings, f"{name}, node {position}"))
            for output, result in enumerate(operation.outputs.values()):
                if result in found:
                    raise Malformed(f"{name} computes value {result} twice")
                found[result] = Wire(node, output)
        given_back = {entry.argument: value for value, entry in part.values.items() if entry.flags == OUTPUT}
        for argument, value in sorted((_at(args, key or 0, "argument"), value) for key, value in given_back.items()):
            if value not in found:
                raise Malformed(f"{name} does not compute its result")
            settings = {"gives": self._spec(argument)}
            node = self._add(Node("XNNPACK output", (("x", found[value]),), settings, name))
            self._written((argument,), node)

    def _other_backend(self, number: int, args: tuple[int, ...], delegate: Fields) -> None:
        """A part that is not read: its bytes are constants, and what nothing has written is what it computes.

        Of the data with names it may use any.
        """
        results = tuple(value for value in args if self._constant(value) is None and value not in self._memory.held)
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
        """One argument of a kernel: tensors are inputs, the rest is text with its type."""
        kind, fields = self._value(value)
        if kind == "Tensor" or value in self._memory.held:
            inputs.append((name, self._tensor(value)))
        elif kind in ("TensorList", "OptionalTensorList", "IntList"):
            settings[name] = f"{kind} of {len(fields['items'])}"
            for position, item in enumerate(fields["items"]):
                if item == -1 and kind == "OptionalTensorList":
                    inputs.append((f"{name}[{position}]", None))
                elif self._kind(item) not in ("Tensor", "Int", "Null"):
                    raise Malformed(f"value {value} is a list of a {self._kind(item)}")
                else:
                    self._argument(f"{name}[{position}]", item, inputs, settings)
        elif "items" in fields:
            settings[name] = f"{kind} {list(fields['items'])}"
        else:
            settings[name] = f"{kind} {fields.get('value')}"

    def _tensor(self, value: int) -> Input:
        """What stands in a value now."""
        constant = self._constant(value)
        if constant is not None:
            return constant
        place = self._place(value)
        self._taken.append(place)
        found = self._memory.find(value, place)
        if found is None:
            raise Malformed(f"value {value} is read before it is computed, or after it was written over")
        wire, aside = found
        if not aside:
            return wire
        return Wire(self._add(Node("view", (("x", wire),), {"result 0": self._spec(value)}, f"value {value}")))

    def _constant(self, value: int) -> Constant | None:
        kind, fields = self._value(value)
        if kind != "Tensor" or not fields["data_buffer_idx"]:
            return None
        if fields["allocation"] is not None:
            raise Malformed(f"value {value} is state")
        sizes = fields["sizes"]
        order = tuple(fields["dim_order"]) or tuple(range(len(sizes)))
        if sorted(order) != list(range(len(sizes))):
            raise Malformed(f"value {value} has dimensions in the order {list(order)}")
        start = _at(self._program.offsets, fields["data_buffer_idx"], "constant")
        stored = array(self._program.constants, self._dtype(fields), _count(sizes), start)
        shaped = stored.reshape([sizes[dimension] for dimension in order]).transpose(np.argsort(order))
        return Constant(shaped, f"constant {fields['data_buffer_idx']}")

    def _value(self, value: int) -> tuple[str, Fields]:
        entry = _at(self._plan["values"], value, "value")["value"]
        if entry is None:
            raise Malformed(f"value {value} is nothing")
        kind, fields = entry
        if kind == "Tensor":
            extra = fields["extra"]
            if fields["storage_offset"] or (extra and (extra["location"] or extra["device"] or extra["device_index"])):
                raise Malformed(f"value {value} does not lie in the file and memory of the program")
        return kind, fields

    def _kind(self, value: int) -> str:
        return self._value(value)[0]

    def _items(self, value: int, kind: str) -> tuple[int, ...]:
        found, fields = self._value(value)
        return fields["items"] if found == kind else ()

    def _dtype(self, fields: Fields) -> np.dtype[Any]:
        if fields["scalar_type"] not in DTYPES or any(size < 0 for size in fields["sizes"]):
            raise Malformed(f"a tensor has type {fields['scalar_type']} and shape {list(fields['sizes'])}")
        return np.dtype(DTYPES[fields["scalar_type"]])

    def _spec(self, value: int) -> str:
        kind, fields = self._value(value)
        if kind != "Tensor":
            return kind
        text = f"{self._dtype(fields).name} {list(fields['sizes'])}"
        if tuple(fields["dim_order"]) != tuple(range(len(fields["sizes"]))):
            text += f" in the order {list(fields['dim_order'])}"
        return text + (" or less" if fields["dynamism"] else "")

    def _place(self, value: int) -> Place | None:
        """The memory of a value: number, first byte, the byte behind the last."""
        kind, fields = self._value(value)
        if value in self._places:
            return self._places[value]
        allocation = fields["allocation"] if kind == "Tensor" else None
        if allocation is None:
            return None
        start = allocation["low"] | allocation["high"] << 32
        return allocation["memory"], start, start + _count(fields["sizes"]) * self._dtype(fields).itemsize


def _count(sizes: tuple[int, ...]) -> int:
    return int(np.prod(sizes, dtype=object))


def _at_key(values: Mapping[int, Value], key: int) -> Value:
    if key not in values:
        raise Malformed(f"value {key} is named, which an XNNPACK part has not")
    return values[key]


def _describe(parameter: str, value: Value, inputs: list[tuple[str, Input]], settings: Fields) -> None:
    """Add what a value of a part is: what can be rounded as a constant, the rest as settings."""
    settings[parameter] = value.description
    if value.scales is not None:
        inputs.append((f"{parameter} scale", Constant(value.scales)))
    if value.zero_point is not None:
        settings[f"{parameter} zero point"] = value.zero_point


def _compiled_with(delegate: Fields) -> list[str]:
    return [f"{spec['key']}={spec['value'].hex()}" for spec in delegate["specs"]]


def _refuse_unused(graph: Graph, spans: list[range]) -> None:
    """Instructions that no output needs are nothing that a conversion writes, and might write over what is needed."""
    needed: set[int] = set()
    waiting = [result for result in graph.results if isinstance(result, Wire)]
    while waiting:
        node = waiting.pop().node
        if node is not None and node not in needed:
            needed.add(node)
            waiting += [value for _, value in graph.nodes[node].inputs if isinstance(value, Wire)]
    for number, span in enumerate(spans):
        if needed.isdisjoint(span):
            kinds = ", ".join(graph.nodes[index].type for index in span[:1])
            raise Malformed(f"instruction {number} ({kinds}) computes what no output needs")
