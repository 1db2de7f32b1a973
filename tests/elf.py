"""ELF files' program headers."""

import struct

PAGE = 16384
"""Bytes of a page on the newest phones: a library whose segments are aligned to less does not load there."""
LOAD = 1


def load_alignments(content: bytes) -> set[int]:
    """The alignments of the segments that are loaded, of a little-endian ELF file; empty where it is none."""
    if content[:4] != b"\x7fELF":
        return set()
    wide = content[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", content, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", content, 54 if wide else 42)
    starts = [table + number * size for number in range(count)]
    found = [start for start in starts if struct.unpack_from("<I", content, start)[0] == LOAD]
    return {struct.unpack_from("<Q" if wide else "<I", content, start + (48 if wide else 28))[0] for start in found}
