"""Reader of flatbuffers in untrusted files, with schemas in JSON files.

Every offset is checked before it is followed. An offset outside the file, another format or content outside the schema
raises Malformed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import Malformed, reraising

__all__ = ["Decoder", "Schema", "Table", "array", "at", "read", "read_file", "root", "schema"]

T = TypeVar("T")


def read(data: bytes, form: str, position: int) -> int:
    """Reads one little-endian integer."""
    return int(_numbers(data, form.lstrip("<"), position, 1)[0])


@dataclass(frozen=True)
class Table:
    """A table at a position; its fields are indexed in the schema's order."""

    data: bytes
    position: int

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        """Offsets from `position` of the fields that the writer's schema had; 0 for a field that is left out."""
        start = self.position - read(self.data, "<i", self.position)
        return _numbers(self.data, "H", start + 4, max(read(self.data, "<H", start) - 4, 0) // 2)

    @property
    def fields(self) -> int:
        """Number of fields in the writer's schema."""
        return len(self._offsets)

    def field(self, index: int) -> int | None:
        """Returns the position of a field's bytes. None if it is left out."""
        offset = self._offsets[index] if index < len(self._offsets) else 0
        return self.position + offset if offset else None

    def integer(self, index: int, form: str) -> int:
        """Returns a scalar field, 0 if it is left out; `form` is its struct format."""
        position = self.field(index)
        return 0 if position is None else read(self.data, form, position)

    def table(self, index: int) -> Table | None:
        """Returns a field that is a table. None if it is left out."""
        position = self.field(index)
        return None if position is None else Table(self.data, position + read(self.data, "<I", position))

    def text(self, index: int) -> str:
        """Returns a string field; empty if it is left out."""
        return self.blob(index).decode("utf-8", errors="replace")

    def blob(self, index: int) -> bytes:
        """Returns a vector of bytes; empty if it is left out."""
        start, count = self.vector(index, 1)
        return self.data[start : start + count]

    def tables(self, index: int) -> list[Table]:
        """Returns a vector of tables."""
        start, count = self.vector(index, 4)
        positions = [start + 4 * i for i in range(count)]
        return [Table(self.data, position + read(self.data, "<I", position)) for position in positions]

    def vector(self, index: int, size: int) -> tuple[int, int]:
        """Returns the position and the number of a vector's elements, which have `size` bytes each."""
        position = self.field(index)
        if position is None:
            return 0, 0
        start = position + read(self.data, "<I", position)
        count = read(self.data, "<I", start)
        if start + 4 + count * size > len(self.data):
            raise Malformed(f"a vector of {count} elements extends beyond the end of the file")
        return start + 4, count


def root(data: bytes, identifier: bytes) -> Table:
    """Returns the root table of a flatbuffer."""
    if data[4:8] != identifier:
        raise Malformed(f"its identifier is {bytes(data[4:8])!r}, expected {identifier!r}")
    return Table(data, read(data, "<I", 0))


@dataclass(frozen=True)
class Schema:
    """Schema of a format: `tables` as `Decoder` takes them, `root` the root table's kind, `enums` the names of values
    from 0."""

    identifier: bytes
    root: str
    tables: Mapping[str, str]
    enums: Mapping[str, tuple[str, ...]]

    def decoded(self, data: bytes) -> dict[str, Any]:
        """Decodes a flatbuffer's root table completely: see `Decoder.table`."""
        return Decoder(self.tables, data).table(root(data, self.identifier), self.root)


@cache
def schema(name: str) -> Schema:
    """Reads the schema in `name`.json, in which lists of names are lines of text, and unions are in angle brackets."""
    content = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    enums, unions = (
        {kind: tuple(" ".join(lines).split()) for kind, lines in content[part].items()} for part in ("enums", "unions")
    )
    tables = dict.fromkeys((member for members in unions.values() for member in members), "")
    for kind, fields in content["tables"].items():
        for union, members in unions.items():
            fields = fields.replace(f"<{union}>", "|".join(members))
        tables[kind] = fields
    return Schema(content["identifier"].encode(), content["root"], tables, enums)


class Decoder:
    """Decoder of whole tables by a schema, so that no content is ignored.

    A form in a schema is one of these:

    - a struct format of one letter
    - `text`, or a kind of table
    - one of these in brackets for a vector
    - kinds separated by `|` for a union, which takes two fields
    - `-` for a field that must be left out

    Args:
        schemas: by kind of table, its fields in order as `name:form`, separated by blanks.
        data: the flatbuffer, which cannot hold more elements and tables than it has bytes.
    """

    def __init__(self, schemas: Mapping[str, str], data: bytes) -> None:
        self._schemas = {kind: [part.split(":") for part in fields.split()] for kind, fields in schemas.items()}
        self._left = len(data)

    def table(self, table: Table, kind: str) -> dict[str, Any]:
        """Returns a table's fields by name: scalars (0 if left out), text and tables (None), vectors as tuples or bytes
        (empty), and unions as the member's kind and fields (None).

        Raises:
            Malformed: an offset is outside the file, a union has no such member, or a field is not in the schema.
        """
        self._take(1)
        decoded, index = {}, 0
        for name, form in self._schemas[kind]:
            if "|" in form:
                decoded[name] = self._union(table, index, form.split("|"))
                index += 1
            else:
                decoded[name] = self._value(table, index, form)
            index += 1
        if any(table.field(more) is not None for more in range(index, table.fields)):
            raise Malformed(f"a {kind} has a field that is not in the known schema")
        return decoded

    def _value(self, table: Table, index: int, form: str) -> Any:
        position = table.field(index)
        if form == "-":
            if position is not None:
                raise Malformed(f"field {index} of a table is obsolete")
            return None
        if form == "text":
            return None if position is None else table.text(index)
        if form == "[B]":
            return table.blob(index)
        if form.startswith("["):
            return self._vector(table, index, form[1:-1])
        if len(form) == 1:
            return _numbers(*((bytes(8), form, 0) if position is None else (table.data, form, position)), 1)[0]
        inner = table.table(index)
        return None if inner is None else self.table(inner, form)

    def _vector(self, table: Table, index: int, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form) if len(form) == 1 else 4
        start, count = table.vector(index, size)
        self._take(count)
        if len(form) == 1:
            return _numbers(table.data, form, start, count)
        return tuple(self.table(inner, form) for inner in table.tables(index))

    def _union(self, table: Table, index: int, kinds: list[str]) -> tuple[str, dict[str, Any]] | None:
        member, inner = table.integer(index, "<B"), table.table(index + 1)
        if member == 0 or inner is None:
            return None
        if member > len(kinds):
            raise Malformed(f"a table has kind {member}, but only {len(kinds)} kinds are known")
        return kinds[member - 1], self.table(inner, kinds[member - 1])

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Malformed("its contents exceed its size")


def _numbers(data: bytes, form: str, position: int, count: int) -> tuple[Any, ...]:
    if position < 0 or position + count * struct.calcsize(form) > len(data):
        raise Malformed(f"an offset points at byte {position} of {len(data)}")
    return struct.unpack_from(f"<{count}{form}", data, position)


def read_file(path: Path, kind: str, parse: Callable[[bytes], T]) -> T:
    """Reads a file of a `kind` such as ".pte", and returns the result of `parse` for its bytes.

    Raises:
        InvalidInput: it is missing, or `parse` raises Malformed or IndexError.
    """
    with reraising(f"{path} cannot be read", OSError):
        data = path.read_bytes()
    with reraising(f"{path} is not a usable {kind} file", Malformed, IndexError):
        return parse(data)


def at(held: Any, index: int, what: str) -> Any:
    """Returns the element at an index that the file contains, after a range check."""
    if not 0 <= index < len(held):
        raise Malformed(f"{what} {index} of {len(held)} is named")
    return held[index]


def array(data: bytes, dtype: npt.DTypeLike, count: int, start: int = 0) -> npt.NDArray[Any]:
    """Returns `count` elements from byte `start` on, read-only."""
    if start + count * np.dtype(dtype).itemsize > len(data):
        raise Malformed(f"{count} elements from byte {start} are beyond the end of the file ({len(data)} bytes)")
    return np.frombuffer(data, dtype, count, start) if count else np.zeros(0, dtype)
