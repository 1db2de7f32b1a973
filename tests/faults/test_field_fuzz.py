"""Each field of each kind of table in a file, changed once: it is seen, or it stands here with the reason why not."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.fields import is_another, spread
from tiny import WORDS
from writing import small_bundle

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets import Artifact, get_target
from mobileclip_deploy.targets.flatbuffer import Decoder, Schema, Table, read, root, schema

pytestmark = pytest.mark.slow


@dataclass
class Place:
    """Where a field's first number stands, in which form."""

    position: int
    form: str


@dataclass
class Fields(Decoder):
    """A decoder that keeps where each field of each kind of table stands."""

    found: dict[str, list[Place]] = field(default_factory=dict)

    def __init__(self, schema: Schema, data: bytes) -> None:
        super().__init__(schema.tables, data)
        self.found = {}
        self.table(root(data, schema.identifier), schema.root)

    def table(self, table: Table, kind: str) -> dict[str, Any]:
        index = 0
        for name, form in self._schemas[kind]:
            place = self._place(table, index, form)
            if place is not None:
                self.found.setdefault(f"{kind}.{name}", []).append(place)
            index += 2 if "|" in form else 1
        return super().table(table, kind)

    def _place(self, table: Table, index: int, form: str) -> Place | None:
        position = table.field(index)
        if position is None or form == "-":
            return None
        if "|" in form:
            return Place(position, "B")
        if len(form) == 1:
            return Place(position, form)
        inner = "B" if form in ("text", "[B]") else form[1:-1] if form.startswith("[") else form
        if len(inner) != 1:
            return None  # of tables each field is changed by itself
        start, count = table.vector(index, struct.calcsize(inner))
        return Place(start, inner) if count else None


def changed(data: bytes, place: Place, start: int = 0) -> bytes:
    """The bytes with the number at a place made another."""
    size = struct.calcsize(place.form)
    at = start + place.position
    (value,) = struct.unpack_from(f"<{place.form}", data, at)
    other = value * 1.5 + 1 if place.form in "fd" else value ^ 1 if place.form != "?" else not value
    return data[:at] + struct.pack(f"<{place.form}", other) + data[at + size :]


def export(target: str, precision: str, folder: Path) -> Artifact:
    torch.set_num_threads(1)
    bundle = small_bundle(WORDS, target, precision, folder, tower="text", verify=False)
    return get_target(target).open(bundle.artifact("text"))


def is_seen(artifact: Artifact, data: bytes, path: Path) -> bool:
    """Whether a changed copy is refused, or declares or computes something else."""
    path.write_bytes(data)
    other = type(artifact)(path, **({"readable": True} if path.suffix == ".pte" else {}))
    return is_another(other, artifact)


def unseen(artifact: Artifact, fields: Fields, data: bytes, path: Path, start: int = 0) -> Iterator[str]:
    for name, places in fields.found.items():
        if not all(is_seen(artifact, changed(data, place, start), path) for place in spread(places)):
            yield name


LITERT_HARMLESS = {
    "Model.description": "for people",
    "SubGraph.name": "for people",
    "Tensor.has_rank": "the shape says it",
    "Tensor.name": "for people: the signature names inputs and outputs",
    "Metadata.name": "what nothing here looks for says nothing",
    "Metadata.buffer": "of metadata that nothing reads",
    "Buffer.data": "of metadata, or of what no operator takes",
}


def test_every_field_of_a_tflite(tmp_path: Path) -> None:
    from litert_files import require_litert

    require_litert()
    artifact = export("litert", "w4", tmp_path)
    data = artifact.path.read_bytes()
    fields = Fields(schema("tflite"), data)
    assert "Blockwise.zero_points" in fields.found
    found = set(unseen(artifact, fields, data, tmp_path / "other.tflite"))
    assert sorted(found - set(LITERT_HARMLESS)) == []


PTE_HARMLESS = {
    "Allocation.low": "values are followed through whatever memory they lie in; one written over is refused",
    "Allocation.memory": "as where in it",
    "Containers.inputs": "how Python packs what it passes",
    "Containers.outputs": "how Python packs what it gets",
    "Offsets.offsets": "the first is no constant's",
    "Plan.buffer_sizes": "a byte more of memory",
    "Segment.size": "a byte more of padding",
    "XNNPACK Constant.offset": "of constants that have a name",
    "XNNPACK Constant.size": "type and shape of the value say it",
    "XNNPACK Graph.version": "the identifier decides",
    "XNNPACK Node.debug_handle": "for profilers",
}


def test_every_field_of_a_pte_and_of_its_parts(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")

    artifact = export("executorch", "w8", tmp_path)
    data = artifact.path.read_bytes()
    found = set(unseen(artifact, Fields(schema("program"), data), data, tmp_path / "other.pte"))
    for delegate in artifact.file.fields["plans"][0]["delegates"]:
        payload = artifact.file.payload(delegate)
        begin, size = read(payload, "<I", 10), read(payload, "<I", 14)
        fields = Fields(schema("xnnpack"), payload[begin : begin + size])
        assert {"Graph.input_ids", "Graph.output_ids", "Graph.num_externs"} <= fields.found.keys()
        start = data.index(payload) + begin
        found |= {f"XNNPACK {name}" for name in unseen(artifact, fields, data, tmp_path / "other.pte", start)}
    assert sorted(found - set(PTE_HARMLESS)) == []


def test_a_field_that_is_changed_is_another(tmp_path: Path) -> None:
    data = struct.pack("<Hf?", 7, 1.5, True)
    assert [changed(data, Place(at, form)) != data for at, form in ((0, "H"), (2, "f"), (6, "?"))] == [True] * 3
    with pytest.raises(Malformed):
        Fields(schema("tflite"), b"\0" * 16)
