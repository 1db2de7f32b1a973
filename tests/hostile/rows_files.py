"""Files of models, lists and locks that no export writes."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

from hostile.table import Row, edit, write

BUNDLE = "onnx-fp16"


def long_line(folder: Path) -> None:
    (folder / "texts.jsonl").write_text(json.dumps("a" * 3_000_000) + "\n", encoding="utf-8")


def locked(count: int) -> Callable[[Path], object]:
    bundle = {"checkpoint_sha256": "0" * 64, "checks": {}, "bytes": {}}
    return write("lock.json", lambda: json.dumps({"bundles": {f"bundle-{k}": bundle for k in range(count)}}))


def mlx_function(result: int, operation: str = "") -> bytes:
    """A function without inputs, which returns a value by this number; with an operation without inputs as value 1."""
    text = b"0.32.4"
    head = struct.pack("<Q6siBQ", len(text), text, 1, 0, 0)  # version, functions, shapes, metadata
    names = struct.pack("<QQQ", 0, 0, 0)  # of inputs: named, values, declarations
    steps = struct.pack("<QBQiiiQ", 1, 1, 0, 0, 0, 0, len(operation)) + operation.encode() if operation else b""
    return head + names + struct.pack("<QQQ", 1, result, bool(steps)) + steps


ROWS = (
    Row(
        "MLX function",
        "a result that nothing computes",
        write("a.mlxfn", mlx_function(7)),
        ("inspect", "a.mlxfn"),
        "it returns a value that is never computed",
    ),
    Row(
        "list",
        "a line of 3 million bytes",
        long_line,
        ("--quiet", "embed", "bundle", "texts.jsonl", "-o", "out.npy"),
        "texts.jsonl:1: a line of 3,000,002 bytes",
        bundle=BUNDLE,
    ),
    Row(
        "lock",
        "20,000 bundles",
        locked(20_000),
        ("--quiet", "verify", "bundle", "--baseline", "lock.json"),
        "and 19,990 more",
        bundle=BUNDLE,
    ),
    *(
        Row("scores", f"{field} {value:g}", edit(change), ("inspect", "bundle"), field, bundle=BUNDLE)
        for field, value, change in (
            ("logit_scale", 1e308, lambda m: m.update(logit_scale=1e308)),
            ("logit_scale", -1, lambda m: m.update(logit_scale=-1)),
            ("logit_bias", -1e308, lambda m: m.update(logit_bias=-1e308)),
        )
    ),
    Row(
        "name",
        "like an option",
        edit(lambda m: m["towers"]["image"].update(file="-rf.onnx")),
        ("inspect", "bundle"),
        "'-rf.onnx' is not a plain path",
        bundle=BUNDLE,
    ),
)
