"""One binary for several chips: an archive with a part for each, and the weights that they share.

The emulator loads none, so that nobody here sees its answers. What can be held is held: it has a part for each of its
chips and no more, each part says its chip and holds the graph, and of each chip's own binary, whose answers were
compared, all but the head stands in it byte by byte.
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
LOCAL, NAMES = 30, 26  # of an entry: the length of its head, and where those of its name and what follows stand
END, COUNT = b"PK\x05\x06", 22
BLOCK = 8  # numbers of 64 bits: what a binary is compared by
SAME = 0.95
"""Share of the blocks of a chip's own binary that stand in a union: of nano's towers 0.988 and 0.996, and 0.03 of one
of them in the union of the other."""


def union_of(source: Path, contexts: Sequence[Context]) -> Path | None:
    """The binary of a union of all of these chips; None where there is none.

    Raises:
        InvalidInput: it is another's, damaged, or holds something else than the binaries of its chips do.
    """
    path = beside(source, UNION)
    binary = path.with_suffix(".bin")
    if not path.exists() and not binary.exists():
        return None
    with refusing(f"{path} cannot be used", OSError, DecodeError, ValueError):
        model = onnx.load(path, load_external_data=False)
        require_own(model, binary.name)
        if chips_told(model) != numbers([one.chip for one in contexts]):
            raise Malformed(f"it says that it is of others than {', '.join(one.chip.code for one in contexts)}")
        data = binary.read_bytes()
        parts = _parts(data, binary.name)
        wanted = {PART.format(one.chip.code): one for one in contexts}
        others = [name for name in parts if name not in wanted and not name.startswith(SHARED)]
        if others or not wanted.keys() <= parts.keys():
            raise Malformed(f"{binary.name} holds parts of other chips than it should")
        blocks = np.unique(_blocks(data))
        for name, one in wanted.items():
            require_part(parts[name], f"{binary.name} ({name})", one.chip, model)
            if (share := float(np.isin(_blocks(one.binary.read_bytes()), blocks).mean())) < SAME:
                raise Malformed(f"{binary.name} holds {share:.0%} of {one.binary.name}")
    return binary


def _parts(data: bytes, name: str) -> dict[str, bytes]:
    """The parts of an archive in which nothing is compressed; its checksums are all zero, and `zipfile` reads none."""
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
    """A number for each block of 64 bytes [N]."""
    whole = np.frombuffer(data, np.uint64, len(data) // 8 // BLOCK * BLOCK).reshape(-1, BLOCK)
    odd = np.random.default_rng(0).integers(0, 2**63, BLOCK, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray((whole * odd).sum(axis=1, dtype=np.uint64))
