"""Contents of an XNNPACK part of a .pte, read from its bytes: values, operations, and constants as they are stored.

Follows `backends/xnnpack/serialization/schema.fbs` of ExecuTorch 1.5 (identifier XN01): a header with magic `XH00`, a
flatbuffer, and constants after it or, since 1.0, among the program's named data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.flatbuffer import array, at, read, schema
from mobileclip_deploy.targets.grids.decode import unpack_int4

HEADER_MAGIC = b"XH00"
SCHEMA = schema("xnnpack")
DATATYPES = SCHEMA.enums["XNNDatatype"]
ABSENT = 0xFFFFFFFF
INPUT, OUTPUT = 1, 2  # flags of values

STORED = {
    "fp32": "<f4",
    "fp16": "<f2",
    "qint8": "i1",
    "quint8": "u1",
    "qint32": "<i4",
    "qcint8": "i1",
    "qcint32": "<i4",
    "int32": "<i4",
}
FOUR_BITS = ("qcint4", "qbint4")
ZERO_POINT = 8  # of 4-bit integers, which are stored as 0 ... 15


@dataclass(frozen=True)
class XnnpackValue:
    """A tensor of a part.

    Attributes:
        description: datatype, shape and quantization, without scales and zero point.
        flags: `INPUT`, `OUTPUT` or neither.
        argument: index of the argument of the delegate's call; None for a value inside the part.
        numbers: elements of a constant, [*dims]; 4-bit integers as int8 from -8 to 7.
        scales: float32, [] for one scale, [channels] or [channels, groups]; None if nothing is quantized or scales are
            measured at run time.
        zero_point: zero point of a tensor with one scale; None for others.
    """

    description: str
    flags: int
    argument: int | None
    numbers: Array | None
    scales: Array | None
    zero_point: int | None


Operation = tuple[str, dict[str, int | None], dict[str, int], dict[str, Any]]
"""One node: its type, inputs and outputs by value id, and settings. An omitted input is None."""


def read_part(payload: bytes, named: Mapping[str, bytes]) -> tuple[dict[int, XnnpackValue], list[Operation]]:
    """Reads a part: its values by id, and its operations in execution order.

    Args:
        payload: the compiled part of the delegate.
        named: the program's data by name.
    """
    if payload[4:8] != HEADER_MAGIC:
        raise Malformed("an XNNPACK part has no header")
    start, size, data_start = (read(payload, "<I", offset) for offset in (10, 14, 18))
    length = read(payload, "<Q", 22)
    if start + size > len(payload) or data_start + length > len(payload):
        raise Malformed("an XNNPACK part is truncated")
    graph = SCHEMA.decoded(payload[start : start + size])
    constants = _Constants(graph["constant_data"], payload[data_start : data_start + length], named)
    values: dict[int, XnnpackValue] = {}
    for entry in graph["xvalues"]:
        if entry["value"] is None:
            raise Malformed("a value of an XNNPACK part is empty")
        kind, fields = entry["value"]
        value_id, value = _value(kind, fields, constants)
        if value_id in values:
            raise Malformed(f"value {value_id} of an XNNPACK part occurs twice")
        values[value_id] = value
    _check_externs(graph, values)
    return values, [_operation(node) for node in graph["xnodes"]]


def _check_externs(graph: Mapping[str, Any], values: Mapping[int, XnnpackValue]) -> None:
    """Compares the part's two records of its inputs and outputs: the lists of ids, and the flags of its values."""
    outside = {value_id: value for value_id, value in values.items() if value.argument is not None}
    for name, flags in (("input_ids", INPUT), ("output_ids", OUTPUT)):
        ids = [value_id for value_id, value in outside.items() if value.flags == flags]
        if sorted(graph[name]) != sorted(ids):
            raise Malformed(
                f"an XNNPACK part names {list(graph[name])} as its {name}, but its values list {sorted(ids)}"
            )
    if graph["num_externs"] != len(outside):
        raise Malformed(f"an XNNPACK part has {len(outside)} external values, but declares {graph['num_externs']}")


@dataclass(frozen=True)
class _Constants:
    table: tuple[dict[str, Any], ...]
    behind: bytes
    named: Mapping[str, bytes]

    def read(self, index: int, dtype: npt.DTypeLike, count: int) -> Array:
        """Reads `count` elements of constant `index`."""
        entry = at(self.table, index, "constant")
        key = entry["named_key"]
        if key is None:
            return array(self.behind, dtype, count, entry["offset"])
        if key not in self.named:
            raise Malformed(f"it has no data named {key}")
        return array(self.named[key], dtype, count)


def _value(kind: str, entry: dict[str, Any], constants: _Constants) -> tuple[int, XnnpackValue]:
    tensor, quantized = (entry, None) if kind == "Tensor" else (entry["tensor"], entry["quantization"])
    if tensor is None or not 0 < tensor["datatype"] < len(DATATYPES):
        raise Malformed("a value of an XNNPACK part has no type")
    datatype, dims, index = DATATYPES[tensor["datatype"]], tensor["dims"], tensor["constant_buffer_idx"]
    elements = _stored(datatype, dims, index, constants) if index else None
    argument = None if tensor["external_id"] == ABSENT else tensor["external_id"]
    if tensor["num_dims"] != len(dims):
        raise Malformed(f"a value of an XNNPACK part has {tensor['num_dims']} dimensions and the shape {list(dims)}")
    # A value outside of the part is either an input or an output: XNNPACK would use a constant as both.
    if tensor["flags"] not in ((0,) if argument is None else (INPUT, OUTPUT)) or (argument is not None and index):
        raise Malformed(f"a value of an XNNPACK part has flags {tensor['flags']}")
    text, scales, zero_point = _quantization(quantized, dims, constants)
    description = f"{datatype} {list(dims)}{text}"
    return tensor["id_out"], XnnpackValue(description, tensor["flags"], argument, elements, scales, zero_point)


def _stored(datatype: str, dims: tuple[int, ...], index: int, constants: _Constants) -> Array:
    count = int(np.prod(dims, dtype=object))
    if datatype in FOUR_BITS and dims:
        rows = count // max(dims[-1], 1)
        packed = constants.read(index, np.uint8, rows * -(-dims[-1] // 2)).reshape(rows, -1)
        return unpack_int4(packed, ZERO_POINT)[:, : dims[-1]].reshape(dims)
    if datatype not in STORED:
        raise Malformed(f"a constant of an XNNPACK part is {datatype}")
    return constants.read(index, STORED[datatype], count).reshape(dims)


def _quantization(
    given: tuple[str, dict[str, Any]] | None, dims: tuple[int, ...], constants: _Constants
) -> tuple[str, Array | None, int | None]:
    """Returns a value's quantization in words, its scales, and its zero point."""
    if given is None:
        return "", None, None
    kind, how = given
    if kind == "PerTensor":
        return ", one scale", np.array(how["scale"], np.float32), how["zero_point"]
    if kind == "PerToken":
        return f", measured over {how['num_nonbatch_dims']}", None, None
    axis, index = how["channel_dim"], how["scale_buffer_idx"]
    if not 0 <= axis < len(dims):
        raise Malformed(f"scales are along dimension {axis} of {len(dims)}")
    if kind == "PerChannel":
        _check_scales(how["num_scales"], dims[axis])
        if index:
            return f", along {axis}", constants.read(index, "<f4", dims[axis]), None
        scales = np.array(how["scale"], np.float32)
        if len(scales) != dims[axis]:
            raise Malformed(f"{len(scales)} scales of {dims[axis]} channels")
        return f", along {axis}", scales, None
    group = how["group_size"]
    if len(dims) != 2 or axis != 0 or group <= 0 or dims[1] % group or not index:
        raise Malformed(f"groups of {group} of {list(dims)} along {axis}")
    shape = dims[0], dims[1] // group
    _check_scales(how["num_scales"], shape[0] * shape[1])
    halves = constants.read(index, "<u2", shape[0] * shape[1])  # bfloat16: the upper half of a float32
    return f", groups of {group}", (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape), None


def _check_scales(told: int, count: int) -> None:
    if told != count:
        raise Malformed(f"a value of an XNNPACK part declares {told} scales, its shape needs {count}")


def _operation(node: dict[str, Any]) -> Operation:
    if node["operation"] is None:
        raise Malformed("an operation of an XNNPACK part is empty")
    kind, fields = node["operation"]
    inputs: dict[str, int | None] = {}
    outputs: dict[str, int] = {}
    settings: dict[str, Any] = {}
    for name, value in fields.items():
        if not name.endswith("_id"):
            settings[name] = list(value) if isinstance(value, tuple) else value
        elif name.startswith("output"):
            outputs[name.removesuffix("_id")] = value
        else:
            inputs[name.removesuffix("_id")] = None if value == ABSENT else value
    ends = node["range"]
    settings["range"] = "-inf to inf" if ends is None else f"{ends['low']:.9g} to {ends['high']:.9g}"
    return kind, inputs, outputs, settings
