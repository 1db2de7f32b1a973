"""Contents of a .tflite, read from its bytes only: tensors, operators, the signature, metadata.

No package of LiteRT is imported, and files are treated as untrusted (see `targets.flatbuffer`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.flatbuffer import array, at, schema
from mobileclip_deploy.targets.graph import Graph
from mobileclip_deploy.targets.grids.decode import unpack_int4
from mobileclip_deploy.targets.values import as_bytes

SIGNATURE = "serving_default"
"""Name of a file's only signature; with it apps need not name the signature."""
SCHEMA = schema("tflite")
# numpy's types by TensorType, little-endian like everything in flatbuffers.
DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 6: "?", 7: "<i2", 9: "i1", 10: "<f8", 15: "<u4", 16: "<u2"}
INT4 = "int4"
VERSION = 3
FOUR_BITS = 17  # TensorType
NO_ZERO_POINTS = -1  # index of the missing tensor of zero points, since blocks are symmetric


@dataclass(frozen=True)
class Quantized:
    """Quantization of a tensor's integers: `(integer - zero_point) * scale`.

    There is one scale, or one for each index of `axis`. With `block` there is a scale for each `block` inputs of an
    output, [outputs, blocks].
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    block: int | None = None


@dataclass(frozen=True)
class ModelTensor:
    """A tensor; `values` are set if they are stored in the file (4-bit integers as int8)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    values: npt.NDArray[Any] | None
    bytes: int
    quantized: Quantized | None

    @property
    def free_shape(self) -> tuple[int, ...]:
        """Shape with 0 for free dimensions."""
        return tuple(0 if size == -1 else size for size in self.signature) if self.signature else self.shape

    @property
    def taken_shape(self) -> tuple[int, ...]:
        """Shape of a tower's inputs for this tensor: for an image of bytes that of the float pixels."""
        shape = self.free_shape
        return (shape[0], shape[3], *shape[1:3]) if self.dtype == "uint8" else shape

    def as_taken(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Converts a tower's inputs [N, ...] to this tensor's form: pixels [N, 3, S, S] in [0, 1] to bytes [N, S, S,
        3]."""
        return np.ascontiguousarray(as_bytes(inputs) if self.dtype == "uint8" else inputs, dtype=self.dtype)


@dataclass(frozen=True)
class Operator:
    """One operator: `inputs` and `outputs` are indices in `ModelFile.tensors`, -1 for an omitted optional one."""

    type: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """The only graph of a file. `inputs` and `outputs` map names in the signature to tensor indices."""

    tensors: tuple[ModelTensor, ...]
    operators: tuple[Operator, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    metadata: Mapping[str, bytes]


def parse_model(data: bytes) -> ModelFile:
    """Parses the bytes of a .tflite with one graph and one signature.

    Raises:
        Malformed, IndexError: it has another format, is cut off or damaged, or has a feature that no export here
            writes.
    """
    model = SCHEMA.decoded(data)
    if model["version"] != VERSION:
        raise Malformed(f"its version is {model['version']}, not {VERSION}")
    if len(model["subgraphs"]) != 1:
        raise Malformed(f"it has {len(model['subgraphs'])} graphs, not one")
    graph, buffers = model["subgraphs"][0], [_content(data, buffer) for buffer in model["buffers"]]
    tensors = _tensors(graph["tensors"], buffers)
    inputs, outputs = _signature(model["signatures"], graph)
    operators = tuple(_operator(operator, model["codes"], len(tensors)) for operator in graph["operators"])
    metadata = {str(entry["name"]): at(buffers, entry["buffer"], "buffer") for entry in model["metadata"]}
    return ModelFile(tensors, operators, inputs, outputs, metadata)


@dataclass(frozen=True)
class StoredParts:
    """Contents of any .tflite that need no signature: stored tensors, operator types, and custom ones."""

    constants: tuple[ModelTensor, ...]
    operators: tuple[str, ...]
    custom: tuple[str, ...]


def parse_parts(data: bytes) -> StoredParts:
    """Parses the bytes of a .tflite of any number of graphs and signatures.

    Raises:
        Malformed, IndexError: it has another format, is cut off or damaged.
    """
    model = SCHEMA.decoded(data)
    buffers, names = [_content(data, buffer) for buffer in model["buffers"]], SCHEMA.enums["BuiltinOperator"]
    tensors: list[ModelTensor] = []
    for graph in model["subgraphs"]:
        readable = [
            entry for entry in graph["tensors"] if not entry["variable"] and entry["type"] in (*DTYPES, FOUR_BITS)
        ]
        for entry, tensor in [(entry, _tensor(entry, buffers)) for entry in readable]:
            told = entry["quantization"]  # blocks are scaled by another tensor
            tensors.append(tensor if told is None or told["details"] is not None else _with_grid(tensor, told, []))
    codes = [max(code["code"], code["old_code"]) for code in model["codes"]]
    return StoredParts(
        tuple(tensor for tensor in tensors if tensor.values is not None),
        tuple(names[code] if 0 <= code < len(names) else f"operator {code}" for code in codes),
        tuple(str(code["custom"]) for code in model["codes"] if code["custom"]),
    )


def _content(data: bytes, buffer: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a buffer; in files of more than 2 GB they are after the flatbuffer."""
    if buffer["offset"] > 1:
        start, size = buffer["offset"], buffer["size"]
        if start + size > len(data):
            raise Malformed(f"it is truncated: {len(data)} bytes, but parts of it are beyond them")
        return data[start : start + size]
    content: bytes = buffer["data"]
    return content


def _signature(signatures: Any, graph: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    if [signature["key"] for signature in signatures] != [SIGNATURE]:
        keys = ", ".join(str(signature["key"]) for signature in signatures) or "none"
        raise Malformed(f"its signatures are {keys}, not {SIGNATURE} alone")
    names = [
        {str(entry["name"]): int(entry["tensor"]) for entry in signatures[0][way]} for way in ("inputs", "outputs")
    ]
    for way, indices in zip(("inputs", "outputs"), names, strict=True):
        if sorted(indices.values()) != sorted(graph[way]):
            raise Malformed(f"its signature and its graph have different {way}")
    return names[0], names[1]


def _tensors(entries: Any, buffers: list[bytes]) -> tuple[ModelTensor, ...]:
    plain = [_tensor(entry, buffers) for entry in entries]
    return tuple(
        tensor if entry["quantization"] is None else _with_grid(tensor, entry["quantization"], plain)
        for entry, tensor in zip(entries, plain, strict=True)
    )


def _tensor(entry: Mapping[str, Any], buffers: list[bytes]) -> ModelTensor:
    name, shape, code = str(entry["name"]), tuple(entry["shape"]), entry["type"]
    if entry["variable"]:
        raise Malformed(f"{name} is a variable")
    if any(size < 0 for size in shape):
        raise Malformed(f"{name} has the shape {list(shape)}")
    content, count = at(buffers, entry["buffer"], "buffer"), math.prod(shape)
    values: npt.NDArray[Any] | None = None
    if code == FOUR_BITS:
        dtype = INT4
        if content:
            if len(content) != (count + 1) // 2:
                raise Malformed(f"{name} has {len(content)} bytes for {count} elements of 4 bits")
            values = unpack_int4(array(content, "u1", len(content)), 0)[:count].reshape(shape)
    elif code in DTYPES:
        dtype = np.dtype(DTYPES[code]).name
        if content:
            if len(content) != count * np.dtype(DTYPES[code]).itemsize:
                raise Malformed(f"{name} has {len(content)} bytes for {count} elements of {dtype}")
            values = array(content, DTYPES[code], count).reshape(shape)
    else:
        raise Malformed(f"{name} has the unknown type {code}")
    return ModelTensor(name, dtype, shape, tuple(entry["signature"]), values, len(content), None)


def _with_grid(tensor: ModelTensor, told: Mapping[str, Any], tensors: list[ModelTensor]) -> ModelTensor:
    scale, zero, axis = np.asarray(told["scale"], np.float32), np.asarray(told["zero_point"], np.int64), told["axis"]
    block = None
    if told["details"] is not None:
        kind, details = told["details"]
        if kind != "Blockwise" or len(tensor.shape) != 2:
            raise Malformed(f"{tensor.name} has an unknown form of quantization")
        scales, block = at(tensors, details["scales"], "tensor").values, int(details["block_size"])
        if block < 1 or scales is None or scales.shape != (tensor.shape[0], -(-tensor.shape[1] // block)):
            raise Malformed(f"{tensor.name} has scales that do not fit its blocks")
        if details["zero_points"] != NO_ZERO_POINTS:
            raise Malformed(f"{tensor.name} has zero points in blocks, which the format does not allow")
        scale, zero = scales.astype(np.float32), np.zeros(1, np.int64)
    elif not len(scale):
        return tensor
    elif len(scale) > 1 and (not 0 <= axis < len(tensor.shape) or len(scale) != tensor.shape[axis]):
        raise Malformed(f"{tensor.name} has {len(scale)} scales for its shape {list(tensor.shape)}")
    if block is None and len(zero) not in (1, len(scale)):
        raise Malformed(f"{tensor.name} has {len(zero)} zero points for {len(scale)} scales")
    return replace(tensor, quantized=Quantized(scale, zero, axis, block))


def _operator(entry: Mapping[str, Any], codes: Any, tensors: int) -> Operator:
    code = at(codes, entry["code"], "operator code")
    builtin = max(code["code"], code["old_code"])  # the older field ends at 127
    # The vendor's quantizer leaves the older field at 0 for operators that it adds; readers use the larger field.
    if code["code"] and code["old_code"] not in (0, min(code["code"], 127)):
        raise Malformed(f"an operator has the code {code['code']}, but for older readers {code['old_code']}")
    operators = SCHEMA.enums["BuiltinOperator"]
    kind = operators[builtin] if 0 <= builtin < len(operators) else f"operator {builtin}"
    if code["custom"]:
        kind = f"custom {code['custom']}"
    if any(not -1 <= index < tensors for index in (*entry["inputs"], *entry["outputs"])):
        raise Malformed(f"{kind} refers to a missing tensor")
    extras = ("custom", "intermediates", "mutating", "large_offset", "large_size")
    if any(entry[name] for name in extras):
        raise Malformed(f"{kind} has custom options or state")
    settings = {} if entry["options"] is None else dict(entry["options"][1])
    return Operator(kind, code["version"], entry["inputs"], entry["outputs"], settings)


class OpenedModel(Protocol):
    """An opened .tflite: its path, its contents, and its graph, which refuses declarations that the runtime would
    trust."""

    @property
    def path(self) -> Path: ...

    @property
    def model(self) -> ModelFile: ...

    @property
    def graph(self) -> Graph: ...
