"""The large constants of a program, from its file: the resources of MLIR bytecode, without a copy.

Python's bindings of MLIR have no way to read them but to print all as hexadecimal digits. The encoding is that of
https://mlir.llvm.org/docs/BytecodeFormat/: sections of strings, of resources, and of where in it each resource is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobileclip_deploy.base.files.arrays import Bytes
from mobileclip_deploy.errors import Malformed, refusing

MAGIC = b"ML\xefR"
STRINGS, RESOURCES, RESOURCE_OFFSETS = 0, 5, 6
BLOB, TEXT = 0, 2
ALIGNED = 0x80


def read_resources(path: Path) -> Mapping[str, Bytes]:
    """Name -> bytes of every resource of a bytecode file, mapped from it."""
    with refusing(f"{path} is not readable MLIR bytecode", OSError, ValueError, LookupError):
        return _resources(np.memmap(path, np.uint8, mode="r"))


def _resources(content: Bytes) -> dict[str, Bytes]:
    """Raises ValueError and LookupError for what cannot be read."""
    if content[:4].tobytes() != MAGIC:
        raise Malformed("it does not begin as bytecode does")
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
            raise Malformed("a section ends behind the file")
        # Alignment is told from the beginning of the file: a section keeps its place.
        sections[kind & ~ALIGNED] = _Reader(content[: reader.at + length], reader.at)
        reader.at += length
    if RESOURCES not in sections:
        return {}
    return _blobs(sections[RESOURCES], sections[RESOURCE_OFFSETS], _strings(sections[STRINGS]))


def _strings(section: _Reader) -> list[str]:
    """Their count, their lengths from the last to the first, then their characters, each with a 0 behind it."""
    lengths = [section.number() for _ in range(section.number())][::-1]
    texts, at = [], len(section.content) - sum(lengths)
    if at < section.at:
        raise Malformed("its texts are longer than their section")
    for length in lengths:
        texts.append(section.content[at : at + length - 1].tobytes().decode())
        at += length
    return texts


def _blobs(resources: _Reader, offsets: _Reader, names: list[str]) -> dict[str, Bytes]:
    """Groups of (name, size, kind), first those of no dialect; the resources lie in the same order."""
    found: dict[str, Bytes] = {}
    plain = offsets.number()
    while plain > 0 or offsets.at < len(offsets.content):
        plain -= 1
        offsets.number()  # the producer's name in front of resources of no dialect, or the dialect
        for _ in range(offsets.number()):
            name, size, kind = offsets.number(), offsets.number(), offsets.byte()
            end = resources.at + size
            if kind == BLOB:
                alignment, length = resources.number(), resources.number()
                resources.align(alignment)
                if resources.at + length > len(resources.content):
                    raise Malformed(f"resource {names[name]} ends behind the file")
                found[names[name]] = resources.content[resources.at : resources.at + length]
            resources.at = end
    return found


class _Reader:
    """A place in bytes that moves on with what is read. Python refuses what lies behind the end (IndexError)."""

    def __init__(self, content: Bytes, at: int) -> None:
        self.content, self.at = content, at

    def byte(self) -> int:
        self.at += 1
        return int(self.content[self.at - 1])

    def number(self) -> int:
        """An unsigned number: the zeros below the lowest one of its first byte say how many bytes follow."""
        first = self.byte()
        if first & 1:
            return first >> 1
        more = 8 if first == 0 else (first & -first).bit_length() - 1
        rest = int.from_bytes(self.content[self.at : self.at + more].tobytes(), "little")
        self.at += more
        return rest if first == 0 else (rest << 8 | first) >> (more + 1)

    def align(self, to: int) -> None:
        if to < 1:
            raise Malformed("an alignment of 0")
        self.at += -self.at % to
