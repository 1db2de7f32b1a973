"""Binary for several chips: an archive with a part for each, and their shared weights.

The emulator cannot load one, so its answers cannot be tested here. These properties are checked instead:

- It has a part for each of its chips and no more.
- Each part names its chip and holds the graph.
- Its shared weights are, constant by constant and in order, those of one chip's own binary, whose answers were
  compared: of the oldest chip, as newer ones alone lay out some weights otherwise.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from mobileclip_deploy.errors import Malformed, reraising
from mobileclip_deploy.targets.flatbuffer import read
from mobileclip_deploy.targets.qnn.chips import numbers
from mobileclip_deploy.targets.qnn.context import UNION, Context, beside, chips_told, require_own, require_part

ASIDE = (
    "the binary for several chips: Qualcomm's emulator cannot load it. Its weights are those of a chip's own binary; "
    "run the golden inputs on a phone"
)
PART, WEIGHTS, TABLE = "htp.cache.{}.0", "htp.shared.weights.", "htp.metadata.shared_weights."
SHARED = (WEIGHTS, TABLE, "dlc.metadata")
LOCAL, NAMES = 30, 26  # of an entry: the length of its head, and the offset of the lengths of its name and extra field
END, COUNT = b"PK\x05\x06", 22
HEAD, ENTRY = struct.Struct("<IIIII4x"), struct.Struct("<16xIII12x")  # of a table of constants
MARK = 0x00C0FFEE
VECTOR, ALIGNED = 2048, 256
"""Most bytes of a constant that holds a vector, such as a bias, as float16 in the lower halves of 32-bit words; the
compiler leaves the upper halves unfilled. And the alignment of constants in a binary."""
NEAR = 4096
"""Most bytes by which a constant is nearer to the one before it, or further away, in a chip's own binary."""


def union_of(source: Path, contexts: Sequence[Context]) -> Path | None:
    """Returns the binary of a union of exactly these chips. None if there is none.

    Raises:
        InvalidInput: it is for other chips, damaged, or its contents differ from its chips' binaries.
    """
    path = beside(source, UNION)
    binary = path.with_suffix(".bin")
    if not path.exists() and not binary.exists():
        return None
    with reraising(f"{path} cannot be used", OSError, DecodeError, ValueError):
        model = onnx.load(path, load_external_data=False)
        require_own(model, binary.name)
        if chips_told(model) != numbers([context.chip for context in contexts]):
            raise Malformed(f"it lists other chips than {', '.join(context.chip.code for context in contexts)}")
        data = binary.read_bytes()
        parts = _parts(data, binary.name)
        expected = {PART.format(context.chip.code): context for context in contexts}
        others = [name for name in parts if name not in expected and not name.startswith(SHARED)]
        if others or not expected.keys() <= parts.keys():
            raise Malformed(f"{binary.name} contains parts for other chips")
        for name, context in expected.items():
            require_part(parts[name], f"{binary.name} ({name})", context.chip, model)
        for constants in _weights(parts, binary.name):
            missing = {context.binary: _missing(constants, context.binary.read_bytes()) for context in contexts}
            nearest = min(missing, key=lambda path: missing[path])
            if missing[nearest]:
                raise Malformed(f"{binary.name} holds {missing[nearest]:,} constants that are not {nearest.name}'s")
    return binary


def _parts(data: bytes, name: str) -> dict[str, bytes]:
    """Returns the parts of an uncompressed archive; its checksums are all zero, so `zipfile` cannot read the parts."""
    kinds = (zipfile.BadZipFile, NotImplementedError, struct.error)
    with reraising(f"{name} is not an archive of binaries", *kinds, into=Malformed):
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    parts: dict[str, bytes] = {}
    for entry in entries:
        begin = entry.header_offset + LOCAL + sum(read(data, "<H", entry.header_offset + NAMES + two) for two in (0, 2))
        parts[entry.filename] = data[begin : begin + entry.file_size]
        if entry.compress_type or len(parts[entry.filename]) != entry.file_size:
            raise Malformed(f"{name}: the part {entry.filename[:40]!r} is compressed or truncated")
    if len(parts) != len(entries) or data[-COUNT:][:4] != END:
        raise Malformed(f"{name} contains a part twice, or extra data after its parts")
    return parts


def _weights(parts: Mapping[str, bytes], name: str) -> Iterator[list[tuple[int, bytes]]]:
    """Yields offsets and bytes of the constants of each part of shared weights, in their order.

    Raises:
        Malformed: there are none, or a table does not describe its weights.
    """
    keys = [part.removeprefix(WEIGHTS) for part in parts if part.startswith(WEIGHTS)]
    if not keys:
        raise Malformed(f"{name} holds no shared weights")
    for key in keys:
        weights, table = parts[WEIGHTS + key], parts.get(f"{TABLE}{key}_metadata", b"")
        mark, _, _, size, count = HEAD.unpack_from(table.ljust(HEAD.size, b"\0"))
        if (mark, size, len(table)) != (MARK, ENTRY.size, HEAD.size + count * ENTRY.size) or not count:
            raise Malformed(f"{name} holds a table of weights of an unknown form")
        entries = [(offset, length) for length, _, offset in ENTRY.iter_unpack(table[HEAD.size :])]
        left = bytearray(weights)
        for offset, length in entries:
            left[offset : offset + length] = bytes(length)
        if len(left) != len(weights) or any(left[entries[0][0] :].strip(b"\0")):
            raise Malformed(f"{name} holds weights that their table does not describe")
        yield [(offset, weights[offset : offset + length]) for offset, length in entries]


def _missing(constants: Sequence[tuple[int, bytes]], own: bytes) -> int:
    """Returns the number of constants that a chip's own binary does not have in this order, apart from unfilled
    halves of words (see `VECTOR`)."""
    first = constants[0][0]
    offset, largest = max(constants, key=lambda entry: len(entry[1]))
    missing, end = 0, max(own.find(largest) - offset + first - NEAR, 0)
    for _, constant in constants:
        begins = own.find(constant, end, end + len(constant) + NEAR)
        if begins < 0 and len(constant) <= VECTOR:
            places = range(-(-end // ALIGNED) * ALIGNED, end + NEAR, ALIGNED)
            begins = next((at for at in places if _filled(own[at : at + len(constant)]) == _filled(constant)), -1)
        missing += begins < 0
        end = max(begins, end) + len(constant)
    return missing


def _filled(vector: bytes) -> bytes:
    """Returns the lower halves of 32-bit words."""
    return np.frombuffer(vector, np.uint16, len(vector) // 2)[::2].tobytes()
