"""Binary for several chips: an archive with a part for each, and their shared weights.

The emulator cannot load one, so its answers cannot be tested here. These properties are checked instead:

- It has a part for each of its chips and no more.
- Each part names its chip and holds the graph.
- It contains at least SAME of the 64-byte blocks of each chip's own binary, whose answers were compared.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from mobileclip_deploy.errors import Malformed, refusing
from mobileclip_deploy.targets.flatbuffer import read
from mobileclip_deploy.targets.qnn.chips import numbers
from mobileclip_deploy.targets.qnn.context import UNION, Context, beside, chips_told, require_own, require_part

ASIDE = (
    "the binary for several chips: Qualcomm's emulator loads none. It holds what each chip's own binary holds; run the "
    "golden inputs on a phone"
)
PART, SHARED = "htp.cache.{}.0", ("htp.shared.weights.", "htp.metadata.shared_weights.", "dlc.metadata")
LOCAL, NAMES = 30, 26  # of an entry: the length of its head, and the offset of the lengths of its name and extra field
END, COUNT = b"PK\x05\x06", 22
BLOCK = 8  # 64-bit integers in a block, the unit of comparison of binaries
SAME = 0.95
"""Smallest share of the blocks of a chip's own binary that a union must contain: 0.988 and 0.996 for nano's towers, and
0.03 for one tower in the other's union."""


def union_of(source: Path, contexts: Sequence[Context]) -> Path | None:
    """Returns the binary of a union of exactly these chips. None if there is none.

    Raises:
        InvalidInput: it is for other chips, damaged, or its contents differ from its chips' binaries.
    """
    path = beside(source, UNION)
    binary = path.with_suffix(".bin")
    if not path.exists() and not binary.exists():
        return None
    with refusing(f"{path} cannot be used", OSError, DecodeError, ValueError):
        model = onnx.load(path, load_external_data=False)
        require_own(model, binary.name)
        if chips_told(model) != numbers([context.chip for context in contexts]):
            raise Malformed(f"it says that it is of others than {', '.join(context.chip.code for context in contexts)}")
        data = binary.read_bytes()
        parts = _parts(data, binary.name)
        expected = {PART.format(context.chip.code): context for context in contexts}
        others = [name for name in parts if name not in expected and not name.startswith(SHARED)]
        if others or not expected.keys() <= parts.keys():
            raise Malformed(f"{binary.name} holds parts of other chips than it should")
        blocks = np.unique(_blocks(data))
        for name, context in expected.items():
            require_part(parts[name], f"{binary.name} ({name})", context.chip, model)
            if (share := float(np.isin(_blocks(context.binary.read_bytes()), blocks).mean())) < SAME:
                raise Malformed(f"{binary.name} holds {share:.0%} of {context.binary.name}")
    return binary


def _parts(data: bytes, name: str) -> dict[str, bytes]:
    """Returns the parts of an uncompressed archive; its checksums are all zero, so `zipfile` cannot read the parts."""
    kinds = (zipfile.BadZipFile, NotImplementedError, struct.error)
    with refusing(f"{name} is no archive of binaries", *kinds, into=Malformed):
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    parts: dict[str, bytes] = {}
    for entry in entries:
        begin = entry.header_offset + LOCAL + sum(read(data, "<H", entry.header_offset + NAMES + two) for two in (0, 2))
        parts[entry.filename] = data[begin : begin + entry.file_size]
        if entry.compress_type or len(parts[entry.filename]) != entry.file_size:
            raise Malformed(f"{name}: the part {entry.filename[:40]!r} is compressed or cut short")
    if len(parts) != len(entries) or data[-COUNT:][:4] != END:
        raise Malformed(f"{name} holds a part twice, or something behind its parts")
    return parts


def _blocks(data: bytes) -> npt.NDArray[np.uint64]:
    """Returns a hash for each block of 64 bytes, [N]."""
    whole = np.frombuffer(data, np.uint64, len(data) // 8 // BLOCK * BLOCK).reshape(-1, BLOCK)
    odd = np.random.default_rng(0).integers(0, 2**63, BLOCK, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray((whole * odd).sum(axis=1, dtype=np.uint64))
