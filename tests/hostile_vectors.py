"""What every client and Python refuse alike: damaged indices and tensor files (clients/vectors/hostile.json), and
requests that have no answer (clients/vectors/refusals.json)."""

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from mobileclip_deploy.search.index_file import BLOCK, FIXED, MAGIC, SLOT, gone_block, rows_block
from mobileclip_deploy.search.storage import CODES

DIMENSION, SCALE = 8, 0.01
DESCRIPTION = {"embedding_space": "s", "variant": "nano", "tower": "image"}
LAST = 2**64 - 1


def hostile_vectors() -> dict[str, Any]:
    """Files as base64. `holds`: ids, rows and stamps of indices that are odd and right. `unsearchable`: indices whose
    embeddings no search compares."""
    return {
        "schema_version": 1,
        "indices": [
            {"what": what, "code": "index", "index": _text(content)}
            for what, content in (*_headers(), *_descriptions(), *_slots(), *_blocks(), *_ids(), *_removals())
        ],
        "holds": [
            {"what": what, "index": _text(content), "ids": ids, "rows": rows, "stamps": stamps}
            for what, content, ids, rows, stamps in _odd()
        ],
        "unsearchable": [{"what": what, "code": "index", "index": _text(content)} for what, content in _unsearchable()],
        "tensors": [{"what": what, "code": "bundle", "file": _text(content)} for what, content in _tensors()],
    }


def refusal_vectors() -> dict[str, Any]:
    """Requests. `threshold` is a number or the name of one that JSON has not; `prompts` need a vocabulary."""
    labels = ["a dog", "a cat"]
    return {
        "schema_version": 1,
        "code": "query",
        "labels": [
            {"what": "a template without {}", "names": labels, "template": "a photo"},
            {"what": "an empty template", "names": labels, "template": ""},
            {"what": "the same label twice", "names": ["a dog", "a cat", "a dog"], "template": "{}"},
            {"what": "one label", "names": ["a dog"], "template": "{}"},
            {"what": "no label", "names": [], "template": "{}"},
        ],
        "prompts": [
            {"what": "labels that differ in capitals and blanks", "names": ["a dog", "A  Dog"], "template": "{}"},
            {"what": "labels that are equal after being cut", "names": ["a " * 80 + one for one in labels]}
            | {"template": "a photo of {}"},
        ],
        "search": [
            *({"what": f"the text {text!r}", "text": text, "top": 3, "threshold": None} for text in ("", " ", "\t\n ")),
            *(
                {"what": f"the threshold {value}", "text": "a dog", "top": 3, "threshold": value}
                for value in ("nan", "infinity", "-infinity", 1.5, -2.0)
            ),
            *({"what": f"the {top} nearest", "text": "a dog", "top": top, "threshold": None} for top in (0, -1)),
        ],
    }


def index(
    *blocks: bytes,
    description: bytes | None = None,
    dimension: int = DIMENSION,
    store: int = CODES["int8"],
    scale: float = SCALE,
    **slot: int,
) -> bytes:
    """An index whose checksums are right. `slot`: its `sequence` and `end`."""
    told = json.dumps(DESCRIPTION).encode() if description is None else description
    fields = (MAGIC, 1, dimension, store, len(told))
    checksum = zlib.crc32(told, zlib.crc32(FIXED.pack(*fields, 0, scale)))
    start = FIXED.pack(*fields, checksum, scale).ljust(128, b"\0") + told
    whole = start.ljust(-(-len(start) // 64) * 64, b"\0") + b"".join(blocks)
    packed = SLOT.pack(slot.get("sequence", 1), slot.get("end", len(whole)), 0, 0, 0)[:-4]
    return whole[:96] + packed + struct.pack("<I", zlib.crc32(packed)) + whole[128:]


def rows(*ids: str, stamps: tuple[int, ...] = ()) -> bytes:
    """A block of unit vectors along the axes."""
    vectors = np.rint(np.eye(DIMENSION)[: len(ids)] / SCALE).astype(np.int8)
    return rows_block(ids, np.asarray(stamps or [0] * len(ids), np.uint64), {"int8": vectors})


def changed(block: bytes, **fields: int | bytes) -> bytes:
    """A block with other fields in its head, or with other `ends`, and right checksums."""
    kind, _, length, count, id_bytes, _ = BLOCK.unpack(block[: BLOCK.size])
    body = block[64:]
    if (ends := fields.get("ends")) is not None:
        assert isinstance(ends, bytes)
        body = body[:128] + ends.ljust(64, b"\0") + body[192:]
    told = {"kind": kind, "length": length, "count": count, "id_bytes": id_bytes} | fields
    head = BLOCK.pack(told["kind"], zlib.crc32(body), told["length"], told["count"], told["id_bytes"], 0)[:-4]
    return (head + struct.pack("<I", zlib.crc32(head))).ljust(64, b"\0") + body


def _headers() -> Iterator[tuple[str, bytes]]:
    for dimension in (0, 65_537, 2**32 - 1):
        yield f"{dimension} numbers", index(dimension=dimension)
    for store in (0, 6, 255):
        yield f"the store {store}", index(store=store)
    for scale in (float("nan"), float("inf"), -1.0, 0.0):
        yield f"the scale {scale}", index(scale=scale)
    yield "floats with a scale", index(store=CODES["float32"])
    yield "a description that is longer than the file", index()[:24] + struct.pack("<I", 2**31) + index()[28:]


def _descriptions() -> Iterator[tuple[str, bytes]]:
    for text in ("[]", '"s"', "null", "3", "{}", '{"embedding_space": "s"', "", "\ufeff{}", "[" * 5000):
        yield f"the description {text[:30]}", index(description=text.encode())
    wrong: tuple[dict[str, Any], ...] = (
        {"embedding_space": 3},
        {"embedding_space": ""},
        {"embedding_space": None},
        {"variant": ["nano"]},
        {"tower": "sound"},
        {"tower": 3},
        {"bridged_from": 3},
    )
    for change in wrong:
        yield f"a description with {json.dumps(change)}", index(description=json.dumps(DESCRIPTION | change).encode())
    yield (
        "a description that is not UTF-8",
        index(description=json.dumps(DESCRIPTION).encode().replace(b"nano", b"\xff")),
    )


def _slots() -> Iterator[tuple[str, bytes]]:
    whole = index(rows("a", "b"))
    start = len(index())
    yield "the last sequence", index(rows("a"), sequence=LAST)
    yield "the sequence 0", index(rows("a"), sequence=0)
    for end in (0, 127, start - 64, start + 1, start + 32, start + 64, len(whole) - 64, len(whole) + 1, 2**63, LAST):
        yield f"committed up to {end}", index(rows("a", "b"), end=end)


def _blocks() -> Iterator[tuple[str, bytes]]:
    block = rows("a", "b")
    for length in (0, 32, 63, 64, len(block) - 64, len(block) + 64, 2**63, LAST - 63, LAST):
        yield f"a block of {length} bytes", index(changed(block, length=length))
    for count in (0, 1, 3, 65, 2**31, 2**32 + 2, 2**61, 2**63, LAST):
        yield f"a block of {count} rows", index(changed(block, count=count))
    for size in (0, 1, 65, 2**32, 2**63, LAST):
        yield f"{size} bytes of ids", index(changed(block, id_bytes=size))
    yield "a block of another kind", index(changed(block, kind=b"COLS"))
    yield "a second block that is cut", index(block, block[:64])


def _ids() -> Iterator[tuple[str, bytes]]:
    for ends in ((2, 1), (1, 3), (1, 1), (0, 0), (1, 2**32 + 2), (2**63, 2), (1, LAST), (LAST, 2)):
        yield f"ids that end at {ends}", index(changed(rows("a", "b"), ends=struct.pack("<2Q", *ends)))


def _removals() -> Iterator[tuple[str, bytes]]:
    for row in (2, 2**31, 2**32, 2**53 + 1, 2**63, LAST):
        yield f"row {row} is removed", index(rows("a", "b"), gone_block(np.asarray([row], np.uint64)))
    none = gone_block(np.asarray([0], np.uint64))
    yield "a row is removed before it is there", index(none, rows("a", "b"))
    for count in (0, 9, 2**61, LAST):
        yield f"{count} rows are removed by one number", index(rows("a", "b"), changed(none, count=count))


def _odd() -> Iterator[tuple[str, bytes, list[str], list[int], list[int]]]:
    def gone(*numbers: int) -> bytes:
        return gone_block(np.asarray(numbers, np.uint64))

    yield "no block", index(), [], [], []
    yield "bytes after the end", index(rows("a", "b")) + b"\1\2\3", ["a", "b"], [0, 1], [0, 0]
    yield "a row removed twice", index(rows("a", "b"), gone(0), gone(0)), ["b"], [1], [0]
    stamped = index(rows("a", "b", stamps=(7, LAST)), gone(0), rows("a", stamps=(2**53 + 1,)))
    yield "stamps, and an id that came again", stamped, ["b", "a"], [1, 2], [LAST, 2**53 + 1]
    unknown = json.dumps(DESCRIPTION | {"owner": {"name": "x"}}).encode()
    yield "an unknown key", index(rows("\U0001f408"), description=unknown), ["\U0001f408"], [0], [0]
    one_each = [rows(f"{number}.jpg", stamps=(number,)) for number in range(300)]
    removed = [gone(number) for number in range(0, 300, 3)]
    kept = [number for number in range(300) if number % 3]
    yield "a block for each row", index(*one_each, *removed), [f"{number}.jpg" for number in kept], kept, kept


def _unsearchable() -> Iterator[tuple[str, bytes]]:
    for kind, first in (("float32", np.float32), ("float16", np.float16)):
        for value in (np.nan, np.inf, -np.inf):
            vectors = np.eye(DIMENSION, dtype=first)[:3]
            vectors[1, 0] = value
            block = rows_block(("a", "b", "c"), np.zeros(3, np.uint64), {kind: vectors})
            yield f"{value} in {kind}", index(block, store=CODES[kind], scale=0.0)


def _tensors() -> Iterator[tuple[str, bytes]]:
    def file(header: Any, body: bytes = bytes(64)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + body

    def one(**changes: Any) -> bytes:
        return file({"pixels": {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]} | changes})

    yield "empty", b""
    yield "a header of 2^64 - 1 bytes", struct.pack("<Q", LAST) + b"{}"
    yield "a header that is longer than the file", struct.pack("<Q", 100) + b"{}"
    for text in (
        b"",
        b"[]",
        b"null",
        b"3",
        b'"x"',
        b"{",
        b'{"pixels": null}',
        b'{"pixels": []}',
        b'{"pixels": 3}',
        b"\xff",
    ):
        yield f"the header {text!r}", file(text)
    for key in ("dtype", "shape", "data_offsets"):
        yield f"{key} null", one(**{key: None})
    for offsets in (
        [-64, 0],
        [64, 0],
        [64, 128],
        [32, 96],
        [0, 128],
        [0, 32],
        [0.5, 64],
        ["0", "64"],
        [0],
        [],
        [0, 64, 64],
        [0, 2**63],
        {},
    ):
        yield f"the offsets {offsets}", one(data_offsets=offsets)
    for shape in ([2, 9], [-2, -8], [2, 8.5], ["2", 8], [2**62, 4], [2**32, 2**32], 16, {}):
        yield f"the shape {shape}", one(shape=shape)
    for dtype in ("F128", "", 3, "toString"):
        yield f"the type {dtype!r}", one(dtype=dtype)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
