"""Taking a .pte apart, and putting it together again with something changed: its tables as plain values, its numbers.

What is written is encoded anew, by the schemas that the reader has; nothing of executorch is needed.
"""

import pickle
import struct
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from mobileclip_deploy.targets.executorch import program_file, xnnpack_payload
from mobileclip_deploy.targets.flatbuffer import Decoder, root

Array = np.ndarray[Any, Any]
Fields = dict[str, Any]
ALIGNMENT = 128
SLOTS = {
    "?": "Bool",
    "b": "Int8",
    "B": "Uint8",
    "h": "Int16",
    "i": "Int32",
    "I": "Uint32",
    "q": "Int64",
    "Q": "Uint64",
    "f": "Float32",
    "d": "Float64",
}
ABSENT = xnnpack_payload.ABSENT


class PlantedProgram:
    """A .pte that is being damaged.

    Attributes:
        plan: the method.
        parts: the graph of each XNNPACK delegate, in the order of the delegates.
        constants: of portable kernels, by `data_buffer_idx`.
        named: of XNNPACK's parts, by name.
        spare: how many bytes stand between what is behind the program.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        self.fields: Fields = program_file.SCHEMA.decoded(data)
        (self.plan,) = self.fields["plans"]
        base = struct.unpack_from("<Q", data, 24)[0]
        segments = [data[base + s["offset"] : base + s["offset"] + s["size"]] for s in self.fields["segments"]]
        offsets = (*self.fields["constants"]["offsets"], None)
        whole = segments[self.fields["constants"]["segment"]]
        self.constants = [bytearray(whole[start:end]) for start, end in pairwise(offsets)]
        self.named = {entry["key"]: bytearray(segments[entry["segment"]]) for entry in self.fields["named_data"]}
        self.parts = [self._part(segments[entry["processed"]["index"]]) for entry in self.plan["delegates"]]
        self.spare = 0
        self.text = self.plan["inputs"] and self.value(self.plan["inputs"][0])["scalar_type"] == 4

    @staticmethod
    def _part(payload: bytes) -> Fields:
        start, size = struct.unpack_from("<II", payload, 10)
        data = payload[start : start + size]
        told = xnnpack_payload.SCHEMA
        return Decoder(told.tables, data).table(root(data, told.identifier), "Graph")

    def save(self, path: Path) -> None:
        offsets, whole = [], bytearray()
        for constant in self.constants:
            offsets.append(len(whole))
            whole += constant + bytes(-len(constant) % 16 + self.spare)
        payloads = [_payload(pickle.dumps(part)) for part in self.parts]
        held = [bytes(whole), *payloads, *map(bytes, self.named.values())]
        for index, delegate in enumerate(self.plan["delegates"]):
            delegate["processed"] = {"location": 1, "index": 1 + index}
        behind, segments = bytearray(), []
        for segment in held:
            segments.append({"offset": len(behind), "size": len(segment)})
            behind += segment + bytes(-len(segment) % ALIGNMENT + self.spare * ALIGNMENT)
        first = 1 + len(self.parts)
        self.fields |= {
            "segments": segments,
            "constants": {"segment": 0, "offsets": offsets},
            "named_data": [{"key": key, "segment": first + i} for i, key in enumerate(self.named)],
        }
        program = encoded(self.fields, "Program", program_file.SCHEMA.tables, program_file.SCHEMA.identifier)
        size = len(program) + 32
        base = size + -size % ALIGNMENT
        header = b"eh00" + struct.pack("<IQQQ", 32, size, base, len(behind))
        head = struct.pack("<I", struct.unpack_from("<I", program)[0] + 32) + program[4:8] + header + program[8:]
        path.write_bytes(head + bytes(base - size) + behind)

    # Values and constants of kernels

    def value(self, value: int) -> Fields:
        return self.plan["values"][value]["value"][1]

    def kernels(self, name: str) -> list[Fields]:
        kinds = [operator["name"] for operator in self.plan["operators"]]
        calls = [entry["call"] for entry in self.plan["chains"][0]["instructions"]]
        return [call for kind, call in calls if kind == "KernelCall" and kinds[call["index"]] == name]

    # XNNPACK's parts

    def operations(self, *kinds: str) -> list[tuple[Fields, Fields]]:
        """Operations of some types, each with the part that it is in."""
        return [
            (part, node["operation"][1])
            for part in self.parts
            for node in part["xnodes"]
            if node["operation"][0] in kinds
        ]

    @staticmethod
    def held(part: Fields, value: int) -> Fields:
        """A value of a part, quantized or not: its tensor."""
        return tensor_of(*_entry(part, value))

    def data(self, part: Fields, value: int, scales: bool = False) -> bytearray:
        """The bytes of a constant value, or of its scales."""
        kind, fields = _entry(part, value)
        if scales:
            index = fields["quantization"][1]["scale_buffer_idx"]
        else:
            index = tensor_of(kind, fields)["constant_buffer_idx"]
        return self.named[part["constant_data"][index]["named_key"]]

    def alone(self) -> None:
        """Give every constant of every part a name of its own, so that a fault is in one operation alone."""
        named: dict[str, bytearray] = {}
        for number, part in enumerate(self.parts):
            for index, entry in enumerate(part["constant_data"]):
                if entry["named_key"]:
                    named[f"{number}_{index}_{entry['named_key']}"] = bytearray(self.named[entry["named_key"]])
                    entry["named_key"] = f"{number}_{index}_{entry['named_key']}"
        self.named = named


def _entry(part: Fields, value: int) -> tuple[str, Fields]:
    return next(entry["value"] for entry in part["xvalues"] if tensor_of(*entry["value"])["id_out"] == value)


def tensor_of(kind: str, fields: Fields) -> Fields:
    return fields if kind == "Tensor" else fields["tensor"]


@lru_cache(maxsize=32)
def _payload(pickled: bytes) -> bytes:
    """Payload of a part, which is given as bytes to be a key: most parts are as they were in the file before."""
    graph = encoded(pickle.loads(pickled), "Graph", xnnpack_payload.SCHEMA.tables, xnnpack_payload.SCHEMA.identifier)
    padded = graph + bytes(-len(graph) % 16)
    header = bytes(4) + b"XH00" + struct.pack("<HIIIQ", 30, 32, len(graph), 32 + len(padded), 0)
    return header + bytes(32 - len(header)) + padded


def encoded(fields: Fields, kind: str, schemas: Mapping[str, str], identifier: bytes) -> bytes:
    """A flatbuffer of what `Decoder.table` gives."""
    builder = flatbuffers.Builder(1 << 16)
    builder.ForceDefaults(True)
    parts = {name: [part.split(":") for part in text.split()] for name, text in schemas.items()}

    def table(fields: Fields, kind: str) -> int:
        slots: list[tuple[int, str | None, Any]] = []
        index = 0
        for name, form in parts[kind]:
            given = fields[name]
            if "|" in form:
                if given is not None:
                    slots += [
                        (index, "B", form.split("|").index(given[0]) + 1),
                        (index + 1, None, table(given[1], given[0])),
                    ]
                index += 1
            elif len(form) == 1 and form != "-":
                slots.append((index, form, given))
            elif form.startswith("["):
                slots.append((index, None, vector(given, form[1:-1])))
            elif given is not None:
                slots.append((index, None, builder.CreateString(given) if form == "text" else table(given, form)))
            index += 1
        builder.StartObject(index)
        for slot, form_of, value in slots:
            if form_of is None:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                getattr(builder, f"Prepend{SLOTS[form_of]}Slot")(slot, value, 0)
        return int(builder.EndObject())

    def vector(given: Any, form: str) -> int:
        if isinstance(given, bytes):
            return int(builder.CreateByteVector(given))
        if len(form) == 1:
            builder.StartVector(struct.calcsize(form), len(given), struct.calcsize(form))
            for value in reversed(given):
                getattr(builder, f"Prepend{SLOTS[form]}")(value)
            return int(builder.EndVector())
        tables = [table(item, form) for item in given]
        builder.StartVector(4, len(tables), 4)
        for offset in reversed(tables):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    builder.Finish(table(fields, kind), file_identifier=identifier)
    return bytes(builder.Output())
