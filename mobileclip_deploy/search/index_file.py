"""Binary format of an index (.mcdx), as docs/index_format.md specifies it.

A file has a header, two slots that record the committed length, and blocks that are only appended. A committed block
never changes.
"""

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from mobileclip_deploy.base.files import check_items
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.errors import InvalidInput, first_problem
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.search.storage import CODES, Store

MAGIC = b"MCDX\r\n\x1a\n"
"""Signature like that of PNG: a transfer that changes line ends, or stops at ^Z, is detected."""
VERSION = 1
ALIGNED = 64
FIXED = struct.Struct("<8sIIB7xIIf")  # magic, version, dimension, store, bytes of the description, its CRC-32, scale
SLOT = struct.Struct("<QQQII")  # sequence, committed bytes, zeros, CRC-32 of all before it
BLOCK = struct.Struct("<4sIQQQI")  # kind, CRC-32 of the body, bytes, rows, bytes of ids, CRC-32 of all before it
SLOTS = (64, 96)
LAST_SEQUENCE = 2**64 - 1
"""Largest sequence number. It has no successor, so writers never write it."""
DESCRIPTION = 128
MOST_DESCRIPTION = 1 << 20
MOST_DIMENSION = 1 << 16
ROWS, GONE = b"ROWS", b"GONE"


class Description(BaseModel, frozen=True, extra="ignore"):
    """Description of the vectors of an index. Fields of newer versions are ignored. `bridged_from`: the embedding space
    that a version up to 0.4 approximated the vectors from; no version writes it now."""

    embedding_space: str = Field(min_length=1, max_length=1000)
    variant: str = Field(max_length=1000)
    tower: TowerName = "image"
    artifact: str = Field(default="", max_length=1000)
    fast_jpeg: bool = False
    bridged_from: str | None = Field(default=None, max_length=1000)


@dataclass(frozen=True)
class Header:
    """The beginning of the file, which is written once."""

    store: Store
    description: Description

    def to_bytes(self) -> bytes:
        """Returns header, empty slots and description, up to the first block."""
        text = json.dumps(self.description.model_dump(mode="json", exclude_none=True), ensure_ascii=False).encode()
        store = (MAGIC, VERSION, self.store.dimension, CODES[self.store.name], len(text))
        checksum = zlib.crc32(text, zlib.crc32(FIXED.pack(*store, 0, self.store.scale)))
        return _padded(FIXED.pack(*store, checksum, self.store.scale).ljust(DESCRIPTION, b"\0") + text)


@dataclass(frozen=True)
class Slot:
    """Committed length of the file. Bytes after `end` are from a writer that did not finish."""

    sequence: int
    end: int

    def write(self, stream: BinaryIO) -> None:
        """Overwrites the older of the two slots, so that a power cut leaves one of them whole."""
        packed = SLOT.pack(self.sequence, self.end, 0, 0, 0)[:-4]
        stream.seek(SLOTS[self.sequence % 2])
        stream.write(packed + struct.pack("<I", zlib.crc32(packed)))


@dataclass(frozen=True)
class Block:
    """One committed block. `start` is the offset of its body; `rows` is the number of rows that it adds or removes."""

    kind: bytes
    start: int
    length: int
    rows: int
    id_bytes: int
    checksum: int

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.start - ALIGNED + self.length

    def arrays(self, data: npt.NDArray[np.uint8], store: Store) -> dict[str, npt.NDArray[Any]]:
        """Returns views of its vectors, stamps (uint64), ends of ids (uint64) and ids in the file's bytes `data`."""
        return joined_arrays([self], data, store)


def joined_arrays(blocks: Sequence[Block], data: npt.NDArray[np.uint8], store: Store) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of blocks of rows, concatenated: views of the file's bytes for one block, copies for several.

    `ends` are relative to each block: they begin at 0 again.
    """
    shapes: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]]
    shapes = {name: (dtype, (-1, columns)) for name, (dtype, columns) in store.arrays.items()}
    shapes |= {"stamps": ("<u8", (-1,)), "ends": ("<u8", (-1,))}
    arrays: dict[str, npt.NDArray[Any]] = {}
    offsets = [block.start for block in blocks]
    for name, (dtype, shape) in shapes.items():
        width = np.dtype(dtype).itemsize * abs(shape[-1])
        sizes = [block.rows * width for block in blocks]
        arrays[name] = _joined(data, offsets, sizes).view(dtype).reshape(shape)
        offsets = [offset + _up(size) for offset, size in zip(offsets, sizes, strict=True)]
    return arrays | {"ids": _joined(data, offsets, [block.id_bytes for block in blocks])}


def _joined(data: npt.NDArray[np.uint8], offsets: Sequence[int], sizes: Sequence[int]) -> npt.NDArray[np.uint8]:
    if len(offsets) == 1:
        return data[offsets[0] : offsets[0] + sizes[0]]
    whole = data.data
    parts = (whole[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True))
    return np.frombuffer(b"".join(parts), np.uint8)


def read_header(where: str, data: bytes) -> Header:
    """Reads the header at the beginning of a file's bytes.

    Raises:
        InvalidInput: the file is not an index, of a newer version, or damaged.
    """
    if len(data) < DESCRIPTION or not data.startswith(MAGIC):
        raise InvalidInput(f"{where} is not an index; `embed` writes one, as NAME.mcdx")
    _, version, dimension, code, length, checksum, scale = FIXED.unpack_from(data)
    if version != VERSION:
        raise InvalidInput(f"{where} is an index of version {version}; this release reads {VERSION}; update it")
    names = {number: name for name, number in CODES.items()}
    content = data[DESCRIPTION : DESCRIPTION + length]
    without = FIXED.pack(MAGIC, version, dimension, code, length, 0, scale)
    if (
        code not in names
        or not 0 < dimension <= MOST_DIMENSION
        or length > MOST_DESCRIPTION
        or zlib.crc32(content, zlib.crc32(without)) != checksum
    ):
        raise _damaged(where, "its header")
    try:
        check_items(where, content.decode(), 1000)
        description = parse_model(Description, content)
    except ValidationError as error:
        raise InvalidInput(f"{where} is not a valid index: {first_problem(error)}; write it again") from None
    except ValueError:
        raise _damaged(where, "its description") from None
    integers = names[code] in ("int8", "bits")
    if not (np.isfinite(scale) and (scale > 0) == integers):
        raise _damaged(where, "its scale")
    return Header(Store(names[code], dimension, scale), description)


def read_slot(where: str, data: bytes) -> Slot:
    """Returns the newer of the two slots that are whole.

    Raises:
        InvalidInput: neither is.
    """
    slots = []
    for offset in SLOTS:
        sequence, end, _, _, checksum = SLOT.unpack_from(data, offset)
        if zlib.crc32(data[offset : offset + SLOT.size - 4]) == checksum and 0 < sequence < LAST_SEQUENCE:
            slots.append(Slot(sequence, end))
    if not slots:
        raise _damaged(where, "both of its slots")
    return max(slots, key=lambda slot: slot.sequence)


def read_blocks(where: str, data: npt.NDArray[np.uint8], header: Header, slot: Slot) -> list[Block]:
    """Returns all committed blocks.

    Raises:
        InvalidInput: the file is shorter than its committed length, or a block is not valid.
    """
    if slot.end > len(data):
        raise _damaged(where, f"{len(data):,} bytes of {slot.end:,} exist: its end")
    size = FIXED.unpack(data[: FIXED.size].tobytes())[4]  # as stored: another writer may format the JSON differently
    blocks, offset, whole = [], _up(DESCRIPTION + size), data.data
    if slot.end < offset:
        raise _damaged(where, "its committed end")
    while offset < slot.end:
        head = bytes(whole[offset : offset + BLOCK.size])
        if len(head) < BLOCK.size or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
            raise _damaged(where, f"the block at byte {offset}")
        kind, checksum, length, count, id_bytes, _ = BLOCK.unpack(head)
        block = Block(kind, offset + ALIGNED, length, count, id_bytes, checksum)
        if kind not in (ROWS, GONE) or length != _length(block, header.store) or offset + length > slot.end:
            raise _damaged(where, f"the block at byte {offset}")
        blocks.append(block)
        offset += length
    return blocks


def rows_block(ids: Sequence[str], stamps: npt.NDArray[np.uint64], arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """Returns a block that adds rows; `arrays` are as `Store.encode` returns them."""
    names = [name.encode("utf-8", "surrogateescape") for name in ids]
    ends = np.cumsum([len(name) for name in names], dtype=np.uint64)
    parts = [*(array.tobytes() for array in arrays.values()), stamps.astype("<u8").tobytes(), ends.tobytes()]
    joined = b"".join(names)
    return _block(ROWS, len(ids), len(joined), b"".join([*map(_padded, parts), _padded(joined)]))


def gone_block(rows: npt.NDArray[np.uint64]) -> bytes:
    """Returns a block that removes rows, by their indices over all blocks from 0."""
    return _block(GONE, len(rows), 0, _padded(rows.astype("<u8").tobytes()))


def _block(kind: bytes, rows: int, id_bytes: int, body: bytes) -> bytes:
    packed = BLOCK.pack(kind, zlib.crc32(body), ALIGNED + len(body), rows, id_bytes, 0)[:-4]
    return (packed + struct.pack("<I", zlib.crc32(packed))).ljust(ALIGNED, b"\0") + body


def _length(block: Block, store: Store) -> int:
    if block.kind == GONE:
        return ALIGNED + _up(block.rows * 8)
    vectors = sum(_up(block.rows * columns * np.dtype(dtype).itemsize) for dtype, columns in store.arrays.values())
    return ALIGNED + vectors + 2 * _up(block.rows * 8) + _up(block.id_bytes)


def _padded(part: bytes) -> bytes:
    return part.ljust(_up(len(part)), b"\0")


def _up(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _damaged(where: str, what: str) -> InvalidInput:
    return InvalidInput(f"{where} is damaged ({what} cannot be read); write it again with `embed`")
