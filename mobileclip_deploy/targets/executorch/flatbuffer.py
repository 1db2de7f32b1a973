"""Reading flatbuffers of untrusted files: every offset is checked before it is followed."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Malformed", "Table", "root"]


class Malformed(ValueError):
    """The bytes are not the flatbuffer they were taken for."""


def read(data: bytes, form: str, position: int) -> int:
    """One little-endian integer.

    Raises:
        Malformed: it would lie outside the data.
    """
    size = struct.calcsize(form)
    if position < 0 or position + size > len(data):
        raise Malformed(f"an offset points at byte {position} of {len(data)}")
    return int(struct.unpack_from(form, data, position)[0])


@dataclass(frozen=True)
class Table:
    """A table at a position; its fields are numbered in the order in which the schema lists them."""

    data: bytes
    position: int

    def _field(self, index: int) -> int | None:
        start = self.position - read(self.data, "<i", self.position)
        entry = 4 + 2 * index
        if entry >= read(self.data, "<H", start):
            return None
        offset = read(self.data, "<H", start + entry)
        return self.position + offset if offset else None

    def integer(self, index: int, form: str, default: int = 0) -> int:
        """A scalar field; `form` is its struct format."""
        position = self._field(index)
        return default if position is None else read(self.data, form, position)

    def table(self, index: int) -> Table | None:
        """A field that is a table; None when it is left out."""
        position = self._field(index)
        return None if position is None else Table(self.data, position + read(self.data, "<I", position))

    def text(self, index: int) -> str:
        """A string field; empty when it is left out."""
        return self.blob(index).decode("utf-8", errors="replace")

    def blob(self, index: int) -> bytes:
        """A vector of bytes; empty when it is left out."""
        start, count = self._vector(index, 1)
        return self.data[start : start + count]

    def integers(self, index: int, form: str) -> tuple[int, ...]:
        """A vector of scalars."""
        size = struct.calcsize(form)
        start, count = self._vector(index, size)
        return tuple(read(self.data, form, start + size * i) for i in range(count))

    def tables(self, index: int) -> list[Table]:
        """A vector of tables."""
        start, count = self._vector(index, 4)
        places = [start + 4 * i for i in range(count)]
        return [Table(self.data, place + read(self.data, "<I", place)) for place in places]

    def _vector(self, index: int, size: int) -> tuple[int, int]:
        position = self._field(index)
        if position is None:
            return 0, 0
        start = position + read(self.data, "<I", position)
        count = read(self.data, "<I", start)
        if start + 4 + count * size > len(self.data):
            raise Malformed(f"a vector of {count} elements ends behind the file")
        return start + 4, count


def root(data: bytes, identifier: bytes) -> Table:
    """The root table of a flatbuffer.

    Raises:
        Malformed: another identifier stands at its head.
    """
    if data[4:8] != identifier:
        raise Malformed(f"it begins with {bytes(data[4:8])!r} where {identifier!r} belongs")
    return Table(data, read(data, "<I", 0))
