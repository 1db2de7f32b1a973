"""Conversion of a tower to a .tflite: rewritten for XNNPACK, converted by litert-torch, with weights stored as the
storage says."""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.model.architecture.attention import AttentionPool
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.targets.depthwise import KERNEL, KERNEL_ROWS
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, pack_int4
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.litert.bands import deal_out
from mobileclip_deploy.targets.litert.computing import computed_values, float_places
from mobileclip_deploy.targets.litert.editing import LiteRTEditor
from mobileclip_deploy.targets.litert.model_file import ModelFile, parse_model
from mobileclip_deploy.targets.litert.weights import in_torch_layout, weight_place
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.ranges import ranges_of
from mobileclip_deploy.targets.storage import Storage, by_numbers, layers, require_all
from mobileclip_deploy.targets.values import TensorInfo, TowerJob
from mobileclip_deploy.targets.vendor_internals import exchanged

METADATA = "mobileclip_deploy"
"""Name of the metadata entry that describes the file, as JSON."""


class _Named(nn.Module):
    """A tower whose output has a name, which the signature uses."""

    def __init__(self, tower: nn.Module, output: str) -> None:
        super().__init__()
        self.tower, self.output = tower, output


class _ImageNamed(_Named):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {self.output: self.tower(image)}


class _TextNamed(_Named):
    def forward(self, text: Tensor) -> dict[str, Tensor]:
        return {self.output: self.tower(text)}


def write_model(job: TowerJob, path: Path, storage: Storage, source: TensorInfo, result: TensorInfo) -> None:
    """Converts a tower and writes the .tflite, with weights stored as `storage` says; the same job gives the same
    bytes.

    Args:
        source, result: its input and output; an image of bytes has its channels last.
    """
    with conversion(f"LiteRT conversion of the {job.tower} tower"), torch.no_grad(), hold_back():
        content = job.once("litert", lambda: _converted(job, source.name, result.name))
        model = parse_model(content)
        placed = placed_layers(model, job.module, storage)
        require_all(storage, [name for name, _ in placed.values()])
        if job.calibration is not None:
            layers = [
                index for index, (name, _) in placed.items() if storage[name].kind == "integers" and _is_measured(name)
            ]
            content = quantize_static(content, model, layers, job.calibration)
            tensors = parse_model(content).tensors
            placed = {index: layer for index, layer in placed.items() if tensors[index].quantized is None}
        editor = LiteRTEditor(content)
        for index, (name, axis) in placed.items():
            _store(editor, index, np.asarray(model.tensors[index].values), storage[name], axis)
        if source.dtype == "uint8":
            take_bytes(editor)
        editor.add_metadata(METADATA, _metadata(job))
        path.write_bytes(editor.packed())


def _converted(job: TowerJob, input_name: str, output_name: str) -> bytes:
    """Converts a tower in float32, rewritten for XNNPACK and for LiteRT's GPU."""
    import litert_torch

    example = job.example if job.tower == "image" else job.example.to(torch.int32)
    named = (_ImageNamed if job.tower == "image" else _TextNamed)(job.module, output_name).eval()
    with _pooled_by_sums(named):
        editor = LiteRTEditor(litert_torch.convert(named, sample_kwargs={input_name: example}).model_content())
    deal_out(editor)
    editor.cap_by_minimum()
    editor.keep_ranks()
    return editor.packed()


@contextmanager
def _pooled_by_sums(tower: nn.Module) -> Iterator[None]:
    """Context manager in which a tower computes the scores of a pooled query by products and a sum.

    The query is a constant, and LiteRT's GPU has no matrix product with a constant first factor: it then refuses all
    matrix products of a file (LiteRT 2.3.0).
    """

    def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5 * k).sum(dim=-1)  # [N, heads, L]
        return scores.softmax(dim=-1).unsqueeze(2) @ v

    with ExitStack() as pools:
        for pool in (layer for layer in tower.modules() if isinstance(layer, AttentionPool)):
            pools.enter_context(exchanged(pool, "attended", attended))
        yield


def _metadata(job: TowerJob) -> bytes:
    metadata: dict[str, Any] = {
        "variant": job.variant.name,
        "tower": job.tower,
        "precision": job.precision,
        "licence": job.licence,
        "embedding_space": job.embedding_space,
        "checkpoint_sha256": job.checkpoint_sha256,
    }
    if job.labels:
        metadata["labels"] = list(job.labels)
    return json.dumps(metadata, ensure_ascii=False).encode()


def _store(editor: LiteRTEditor, place: int, values: Floats, grid: Grid, axis: int) -> None:
    """Stores a weight on its grid. float16 is converted to float32 before an operator takes it. Operators take integers
    directly, and the runtime rounds their activations to int8 at run time."""
    if grid.kind == "integers" and grid.block is not None:
        integers, scales = _int4(values, grid)
        editor.store_int4(place, pack_int4(integers.reshape(-1), 0), scales, grid.block)
    elif grid.kind == "integers":
        eight, steps = int8_channels(values, axis)
        editor.store_int8(place, eight, steps.reshape(-1), axis)
    elif grid.bits == 16:
        editor.store_half(place, values.astype(np.float16))


def placed_layers(model: ModelFile, module: nn.Module, storage: Storage) -> dict[int, tuple[str, int]]:
    """Returns the tensors of a float32 file that are weights of layers: by tensor index, the parameter and the
    dimension of its outputs."""
    names = by_numbers(module, storage, floats=True) | _bands(module)
    placed = {}
    for operator in model.operators:
        index = weight_place(model, operator)
        if index is None:
            continue
        values = in_torch_layout(operator, np.asarray(model.tensors[index].values))
        name = names.get(weight_sha256(values.reshape(len(values), -1)))
        if name is not None:
            placed[index] = name, 3 if operator.type == "DEPTHWISE_CONV_2D" else 0
    return placed


def _is_measured(parameter: str) -> bool:
    """Returns whether a weight's product takes int8 with a range measured at export, at precisions that measure.

    Those of feed-forward blocks do, since they take most of the time; those of squeeze-and-excite do not. All others
    round their inputs to int8 by the inputs' own range. Golden inputs exceed the measured ranges: with measured ranges
    for all products the worst cosine of S0's image tower on them is 0.9874. It is 0.9988, at the same speed, with
    measured ranges for these.
    """
    return parameter.endswith((".fc1.weight", ".fc2.weight")) and ".se." not in parameter


def _bands(module: nn.Module) -> dict[str, str]:
    """Returns `by_numbers` for 7 x 7 convolutions that may be written as three for each output of a group."""
    names = {}
    for layer in layers(module):
        conv = layer.module
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (KERNEL, KERNEL) and conv.groups == conv.in_channels:
            count = conv.out_channels // conv.groups
            for part, rows in product(range(count), KERNEL_ROWS):
                window = layer.weight.detach()[part::count, :, list(rows)]
                names[weight_sha256(window.flatten(1).numpy())] = layer.parameter
    return names


def _int4(rows: Floats, grid: Grid) -> tuple[npt.NDArray[np.int8], Floats]:
    """Returns int4 [N, K] and scales [N, blocks]. XNNPACK truncates a scale to bfloat16, so the integers are computed
    with the truncated scale."""
    assert grid.block is not None
    scales = torch.from_numpy(int4_blocks(rows, grid.block, positive=True)[1]).bfloat16().float().numpy()
    steps = scales.repeat(grid.block, axis=1)[:, : rows.shape[1]]
    return np.clip(np.rint(rows / steps), -8, 7).astype(np.int8), scales


CHANNELS_LAST = [0, 2, 3, 1]


def take_bytes(editor: LiteRTEditor) -> None:
    """Changes the input of an image tower to uint8 [1, S, S, 3], 0 to 255.

    Channels come last inside the file anyway, so the operator that transposes floats is removed. Bytes are converted to
    floats as in preprocessing, divided by 255.

    Raises:
        ExportError: the input is not followed by that operator.
    """
    graph, schema = editor.graph, editor.schema
    (source,) = graph.inputs
    consumers = [operator for operator in graph.operators if source in operator.inputs]
    if len(consumers) != 1 or not editor.is_type(consumers[0], "TRANSPOSE"):
        raise ExportError("the converter does not transpose the image first; export it without `nhwc_bytes`")
    (transpose,) = consumers
    order = editor.values(transpose.inputs[1])
    if order is None or order.tolist() != CHANNELS_LAST:
        raise ExportError("the converter transposes the image differently; export it without `nhwc_bytes`")
    (pixels,) = transpose.outputs
    tensor, types = graph.tensors[source], schema.TensorType
    tensor.type, tensor.shape, tensor.shapeSignature = types.UINT8, list(graph.tensors[pixels].shape), None
    floats = editor.computed(tensor.name + b"_floats", tensor.shape)
    most = editor.constant(tensor.name + b"_most", np.full(1, 255, np.float32))
    kinds = schema.CastOptionsT(inDataType=types.UINT8, outDataType=types.FLOAT32)
    position = graph.operators.index(transpose)
    graph.operators[position : position + 1] = [
        editor.operator("CAST", [source], floats, kinds),
        editor.operator("DIV", [floats, most], pixels, schema.DivOptionsT()),
    ]


# LiteRT's own quantizer knows which operators must share a scale and how a bias is rounded. Its own calibration follows
# the first input with a moving average, and its own recipe quantizes inputs and outputs too; neither is used. All other
# operators stay float32: with GELU and additions in int8 too it is not faster, and nano loses 0.6 dB.
OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def quantize_static(
    content: bytes, model: ModelFile, layers: Collection[int], inputs: npt.NDArray[np.generic]
) -> bytes:
    """Quantizes a float32 file to int8, with float32 inputs and outputs.

    Args:
        model: the parsed file.
        layers: weights whose products take measured ranges; all others stay unchanged.
        inputs: inputs of the tower, [N, ...], on which ranges are measured.
    """
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import AlgorithmName, Quantizer

    quantizer = Quantizer(bytearray(content))
    for name in OPERATORS:
        quantizer.add_static_config(".*", TFLOperationName(name), activation_num_bits=8, weight_num_bits=8)
    for operator in model.operators:
        if operator.type in OPERATORS and operator.inputs[1] not in layers:
            scope = f"^{re.escape(model.tensors[operator.outputs[0]].name)};$"
            quantizer.update_quantization_recipe(
                scope, TFLOperationName(operator.type), algorithm_key=AlgorithmName.NO_QUANTIZE
            )
    names = {index: model.tensors[index].name for index in float_places(model)}
    if len(set(names.values())) != len(names):
        raise ExportError("two tensors of the converted file have the same name; their ranges are ambiguous")
    ranges = ranges_of(lambda: computed_values(content, model, inputs))
    measured = {
        names[index]: {"min": np.float32(each.low), "max": np.float32(each.high)} for index, each in ranges.items()
    }
    quantized = quantizer.quantize(measured).quantized_model
    if quantized is None:
        raise ExportError("LiteRT's quantizer wrote no file")
    return bytes(quantized)
