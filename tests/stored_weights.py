"""What an artifact really stores each weight as, read from the file alone, to be held against a target's storage."""

from __future__ import annotations

import json
import re
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.towers.absorbing import scaled_layers

__all__ = ["As", "as_said", "coreml_weights", "named", "onnx_weights", "xnnpack_said", "xnnpack_weights"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class As:
    """How a weight is stored: `shared` is how many numbers along the other dimension share a scale, or how many along
    the first a table; None for all of them."""

    kind: str
    bits: int
    axis: int
    shared: int | None
    pruned: bool = False


@dataclass(frozen=True)
class Weight:
    """A weight in a file: restored, in the file's own layout."""

    values: Array
    stored: As


@dataclass(frozen=True)
class Part:
    """A weight in an XNNPACK part: its shape there, bits, the dimension with the outputs, and the inputs that share a
    scale (None: all)."""

    dims: tuple[int, ...]
    bits: int
    axis: int
    shared: int | None


def as_said(module: nn.Module, storage: Storage) -> dict[str, As]:
    """What a storage says, in the same terms, by name."""
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    return {name: _said(grid, tensors[name].shape) for name, grid in storage.items() if grid.kind != "float"}


def _said(grid: Grid, shape: torch.Size) -> As:
    shared, whole = (grid.group, shape[grid.axis]) if grid.kind == "table" else (grid.block, shape[1 - grid.axis])
    return As(grid.kind, grid.bits, grid.axis, None if shared == whole else shared, grid.pruned > 0)


def named(module: nn.Module, weights: list[Weight]) -> dict[str, As]:
    """Weights of a file by the name of the torch tensor whose numbers they are nearest to, whatever the file calls
    them: as it is, transposed, or multiplied by the layer scale behind it."""
    with torch.no_grad():
        forms = [(name, value.numpy()) for name, value in module.named_parameters()]
        forms += [(name, value.numpy()) for name, value in module.named_buffers()]
        for name, layer, scale in scaled_layers(module):
            factor = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
            forms.append((f"{name}.weight", (layer.weight * factor).numpy()))
    found = {}
    for weight in weights:
        nearest = min(_distances(weight.values, forms))
        _, name, axis = nearest if weight.stored.axis == 0 else (*nearest[:2], 1 - nearest[2])
        assert name not in found, f"{name} is stored twice"
        found[name] = As(weight.stored.kind, weight.stored.bits, axis, weight.stored.shared, weight.stored.pruned)
    return found


def _distances(values: Array, forms: list[tuple[str, Array]]) -> Iterator[tuple[float, str, int]]:
    """How far from each form, its name, and where its first dimension lies in the file."""
    flat = values.reshape(values.shape[0], -1).astype(np.float32)
    for name, form in forms:
        rows = form.reshape(len(form), -1) if form.ndim > 1 else form[None]
        if rows.shape == flat.shape:
            yield float(np.square(flat - rows).sum()), name, 0
        if rows.T.shape == flat.shape:
            yield float(np.square(flat - rows.T).sum()), name, 1


def coreml_weights(path: Path) -> list[Weight]:
    """Weights of a package: constexpr operations as our own reader finds them."""
    from mobileclip_deploy.mil import load

    program = load(path)
    chosen = [weight.name for weight in program.weights if weight.kind != "const"]
    return [Weight(np.asarray(program.constant(name)), _constexpr(program.graph.fixed[name])) for name in chosen]


def _constexpr(value: Any) -> As:
    kind, given = value.source.kind, value.source.operands
    if kind == "constexpr_sparse_to_dense":
        inner = _constexpr(given["nonzero_data"])
        return As(inner.kind, inner.bits, inner.axis, inner.shared, pruned=True)
    if kind == "constexpr_affine_dequantize":
        return As("integers", 8, int(given["axis"].array()), None)
    if kind == "constexpr_blockwise_shift_scale":
        shape, scales = given["data"].shape, given["scale"].shape
        axis = next(dim for dim, count in enumerate(scales) if count == shape[dim])
        blocks = scales[1 - axis]
        bits = int(re.sub(r"\D", "", str(given["data"].type.dtype.name)))
        return As("integers", bits, axis, None if blocks == 1 else shape[1 - axis] // blocks)
    lut = given["lut"].shape
    if len(lut) == 1:  # before iOS 18
        return As("table", lut[0].bit_length() - 1, 0, None)
    shape = (given["indices_mask"] if "indices_mask" in given else given["indices"]).shape
    axis = next((dim for dim, count in enumerate(lut[:-2]) if count > 1), 0)
    tables = lut[axis]
    return As("table", lut[-2].bit_length() - 1, axis, None if tables == 1 else shape[axis] // tables)


def onnx_weights(path: Path) -> list[Weight]:
    """Weights of an ONNX file: constants of integers, and the nodes that restore or take them."""
    import onnx
    from onnx import TensorProto, numpy_helper

    graph = onnx.load(path).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    found = []
    for name, integers in arrays.items():
        users = [node for node in graph.node if name in node.input]
        settings = {one.name: onnx.helper.get_attribute_value(one) for one in users[0].attribute} if users else {}
        scales = arrays.get(f"{re.sub(r'_int[48]$', '', name)}_scale")
        if integers.ndim < 2 or scales is None or tensors[name].data_type in (TensorProto.FLOAT, TensorProto.INT32):
            continue
        if users[0].op_type == "MatMulNBits":
            halves = np.stack((integers & 0xF, integers >> 4), axis=-1).astype(np.float32) - 8
            size, rows = settings["block_size"], settings["N"]
            values = (halves.reshape(rows, -1, size) * scales.reshape(rows, -1, 1)).reshape(rows, -1)
            found.append(
                Weight(
                    values[:, : settings["K"]],
                    As("integers", settings["bits"], 0, None if size == settings["K"] else size),
                )
            )
        elif users[0].op_type == "Gather" and integers.dtype == np.uint8:  # two numbers a byte
            halves = np.stack((integers & 0xF, integers >> 4), axis=-1).reshape(len(integers), -1).astype(np.float32)
            size = halves.shape[1] // scales.shape[1]
            blocks = (halves - 8).reshape(len(integers), -1, size)
            values = (blocks * scales.astype(np.float32)[..., None]).reshape(halves.shape)
            found.append(Weight(values, As("integers", 4, 0, None if size == values.shape[1] else size)))
        else:
            axis = settings.get("axis", 0) if scales.ndim == 1 else int(np.argmax(scales.shape))
            if users[0].op_type == "MatMulInteger":
                axis = 1  # [K, N], a scale a column
            shape = [-1 if dim == axis else 1 for dim in range(integers.ndim)]
            found.append(Weight(integers * scales.reshape(shape), As("integers", 8, axis, None)))
    return found


def xnnpack_weights(path: Path) -> Counter[Part]:
    """Weights of a .pte that XNNPACK's parts hold as integers."""
    from mobileclip_deploy.targets.executorch.program_file import read_program

    found: Counter[Part] = Counter()
    for delegate in read_program(path).delegates:
        for value in _xnnpack_values(delegate.payload):
            union = value["xvalue_union"]
            tensor, given = union.get("tensor_value", union), union.get("quant_params", {})
            dims = tuple(tensor.get("dims", ()))
            if given and tensor.get("constant_buffer_idx") and len(dims) > 1:
                bits = int(tensor["datatype"].rpartition("int")[2])
                axis = given.get("channel_dim", 0)
                found[Part(_plain(dims), bits, axis, given.get("group_size"))] += 1
    return found


def _plain(dims: tuple[int, ...]) -> tuple[int, ...]:
    """[O, 1, 1, I] as [O, I]: a 1 x 1 convolution may be written as a product."""
    return (dims[0], dims[3]) if dims[1:3] == (1, 1) else dims


def _xnnpack_values(payload: bytes) -> list[Any]:
    """The constants and values of a part, decoded by the schema and the compiler that come with executorch."""
    import executorch.backends.xnnpack.serialization as schemas
    from executorch.exir._serialize._flatbuffer import _run_flatc

    assert payload[4:8] == b"XH00"
    start, size = struct.unpack_from("<II", payload, 10)
    with tempfile.TemporaryDirectory() as folder:
        schema, binary = Path(folder) / "schema.fbs", Path(folder) / "part.bin"
        schema.write_bytes((Path(next(iter(schemas.__path__))) / "schema.fbs").read_bytes())
        binary.write_bytes(payload[start : start + size])
        _run_flatc(["--json", "--strict-json", "--raw-binary", "-o", folder, str(schema), "--", str(binary)])
        text = (Path(folder) / "part.json").read_text(encoding="utf-8")
    values: list[Any] = json.loads(re.sub(r"\binf\b", "Infinity", text))["xvalues"]
    return values


def xnnpack_said(module: nn.Module, storage: Storage) -> Counter[Part]:
    """What a storage says of the weights that XNNPACK takes, in the same terms: its layouts are [O, H, W, I], and of
    depthwise convolutions [1, H, W, C]."""
    said: Counter[Part] = Counter()
    for name, layer in module.named_modules():
        grid = storage.get(f"{name}.weight")
        if grid is None or grid.kind == "float" or isinstance(layer, nn.Embedding):
            continue
        if isinstance(layer, nn.Linear):
            said[Part(tuple(layer.weight.shape), grid.bits, 0, grid.block)] += 1
        elif isinstance(layer, nn.Conv2d):
            outputs, inputs, height, width = layer.weight.shape
            dims = (1, height, width, outputs) if layer.groups > 1 else (outputs, height, width, inputs)
            said[Part(_plain(dims), grid.bits, 3 if layer.groups > 1 else 0, grid.block)] += 1
    return said
