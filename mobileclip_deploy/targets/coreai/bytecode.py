"""The large constants of a program, from its file: the resources of MLIR bytecode, without a copy.

Python's bindings of MLIR can read them only by printing all as hexadecimal digits. The encoding is that of
https://mlir.llvm.org/docs/BytecodeFormat/: sections of strings, of resources, and of the resources' offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobileclip_deploy.base.files.arrays import Bytes
from mobileclip_deploy.errors import Malformed, reraising

MAGIC = b"ML\xefR"
STRINGS, RESOURCES, RESOURCE_OFFSETS = 0, 5, 6
BLOB, TEXT = 0, 2
ALIGNED = 0x80


def read_resources(path: Path) -> Mapping[str, Bytes]:
    """Returns the bytes of every resource of a bytecode file by name, mapped from it."""
    with reraising(f"{path} is not readable MLIR bytecode", OSError, ValueError, LookupError):
        return _resources(np.memmap(path, np.uint8, mode="r"))


def _resources(content: Bytes) -> dict[str, Bytes]:
    """Parses bytecode. Raises ValueError and LookupError for unreadable content."""
    if content[:4].tobytes() != MAGIC:
        raise Malformed("its header is not bytecode's")
    reader = _Reader(content, 4)
    reader.number()  # version
    while reader.byte():  # producer, text that ends in 0
        pass
    sections: dict[int, _Reader] = {}
    while reader.at < len(content):
        kind, length = reader.byte(), reader.number()
        if kind & ALIGNED:
            reader.align(reader.number())
        if not 0 <= length <= len(content) - reader.at:
            raise Malformed("a section extends beyond the end of the file")
        # Alignment counts from the beginning of the file, so a section keeps its offset.
        sections[kind & ~ALIGNED] = _Reader(content[: reader.at + length], reader.at)
        reader.at += length
    if RESOURCES not in sections:
        return {}
    return _blobs(sections[RESOURCES], sections[RESOURCE_OFFSETS], _strings(sections[STRINGS]))


def _strings(section: _Reader) -> list[str]:
    """Reads strings: their count, their lengths from the last to the first, then their characters, each followed by a
    0."""
    lengths = [section.number() for _ in range(section.number())][::-1]
    texts, offset = [], len(section.content) - sum(lengths)
    if offset < section.at:
        raise Malformed("its strings exceed their section")
    for length in lengths:
        texts.append(section.content[offset : offset + length - 1].tobytes().decode())
        offset += length
    return texts


def _blobs(resources: _Reader, offsets: _Reader, names: list[str]) -> dict[str, Bytes]:
    """Reads groups of (name, size, kind), first those of no dialect; the resources are in the same order."""
    blobs: dict[str, Bytes] = {}
    plain = offsets.number()
    while plain > 0 or offsets.at < len(offsets.content):
        plain -= 1
        offsets.number()  # the producer's name before resources of no dialect, or the dialect
        for _ in range(offsets.number()):
            name, size, kind = offsets.number(), offsets.number(), offsets.byte()
            end = resources.at + size
            if kind == BLOB:
                alignment, length = resources.number(), resources.number()
                resources.align(alignment)
                if resources.at + length > len(resources.content):
                    raise Malformed(f"resource {names[name]} extends beyond the end of the file")
                blobs[names[name]] = resources.content[resources.at : resources.at + length]
            resources.at = end
    return blobs


class _Reader:
    """A reading position in bytes. Python refuses reads after the end (IndexError)."""

    def __init__(self, content: Bytes, at: int) -> None:
        self.content, self.at = content, at

    def byte(self) -> int:
        self.at += 1
        return int(self.content[self.at - 1])

    def number(self) -> int:
        """Reads an unsigned number: the zeros below the lowest one bit of its first byte give the number of bytes that
        follow."""
        first = self.byte()
        if first & 1:
            return first >> 1
        extra = 8 if first == 0 else (first & -first).bit_length() - 1
        rest = int.from_bytes(self.content[self.at : self.at + extra].tobytes(), "little")
        self.at += extra
        return rest if first == 0 else (rest << 8 | first) >> (extra + 1)

    def align(self, to: int) -> None:
        if to < 1:
            raise Malformed("its alignment is 0")
        self.at += -self.at % to
