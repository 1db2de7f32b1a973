"""Writing an ONNX model weight by weight: `SerializeToString` would hold all of them two or three times more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["write_model"]

# Protocol buffers' wire format: a field that holds a message is its tag, its length and its bytes.
GRAPH_TAG = 7 << 3 | 2  # ModelProto.graph
INITIALIZER_TAG = 5 << 3 | 2  # GraphProto.initializer


def write_model(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto` as one file, equal in content to its `SerializeToString()`: weights come last.

    The whole model's `ByteSize()` is not asked for: it serialises everything to count the bytes.

    Raises:
        OSError: the file cannot be written.
    """
    import onnx

    frame = _without(model, "graph", onnx.ModelProto()).SerializeToString(deterministic=True)
    graph = _without(model.graph, "initializer", onnx.GraphProto()).SerializeToString(deterministic=True)
    heads = [_varint(INITIALIZER_TAG) + _varint(weight.ByteSize()) for weight in model.graph.initializer]
    length = len(graph) + sum(
        len(head) + weight.ByteSize() for head, weight in zip(heads, model.graph.initializer, strict=True)
    )
    with path.open("wb") as stream:
        stream.write(frame + _varint(GRAPH_TAG) + _varint(length) + graph)
        for head, weight in zip(heads, model.graph.initializer, strict=True):
            stream.write(head)
            stream.write(weight.SerializeToString(deterministic=True))


def _without(message: Any, name: str, copy: Any) -> Any:
    """`copy` with all fields of a message but one."""
    for field, value in message.ListFields():
        if field.name == name:
            continue
        if isinstance(value, int | float | str | bytes):
            setattr(copy, field.name, value)
        else:
            getattr(copy, field.name).extend(value)
    return copy


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
