"""A tower as a .tflite: written for XNNPACK, converted by litert-torch, its weights stored as the storage says."""

from __future__ import annotations

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
from mobileclip_deploy.targets.foreign import exchanged
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, pack_int4
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.litert.bands import deal_out
from mobileclip_deploy.targets.litert.computing import computed_values, float_places
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import ModelFile, parse_model
from mobileclip_deploy.targets.litert.weights import in_torch_layout, weight_place
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.ranges import ranges_of
from mobileclip_deploy.targets.storage import Storage, by_numbers, layers, require_all
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

METADATA = "mobileclip_deploy"
"""What the entry of a file's metadata is called that says what the file is, as JSON."""


class _Named(nn.Module):
    """A tower whose output has a name: a signature takes it from there."""

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
    """Convert a tower and write the .tflite, its weights as `storage` says; the same job gives the same bytes.

    Args:
        source, result: what its input and output are; an image of bytes has its channels last.
    """
    with conversion(f"LiteRT conversion of the {job.tower} tower"), torch.no_grad(), hold_back():
        content = job.once("litert", lambda: _converted(job, source.name, result.name))
        model = parse_model(content)
        placed = placed_layers(model, job.module, storage)
        require_all(storage, [name for name, _ in placed.values()])
        if job.calibration is not None:
            layers = [
                place for place, (name, _) in placed.items() if storage[name].kind == "integers" and _is_measured(name)
            ]
            content = quantize_static(content, model, layers, job.calibration)
            tensors = parse_model(content).tensors
            placed = {place: found for place, found in placed.items() if tensors[place].quantized is None}
        editor = Editor(content)
        for place, (name, axis) in placed.items():
            _store(editor, place, np.asarray(model.tensors[place].values), storage[name], axis)
        if source.dtype == "uint8":
            take_bytes(editor)
        editor.add_metadata(METADATA, _metadata(job))
        path.write_bytes(editor.packed())


def _converted(job: TowerJob, input_name: str, output_name: str) -> bytes:
    """What the converter makes of a tower, in float32, written for XNNPACK and for LiteRT's GPU."""
    import litert_torch

    example = job.example if job.tower == "image" else job.example.to(torch.int32)
    named = (_ImageNamed if job.tower == "image" else _TextNamed)(job.module, output_name).eval()
    with _pooled_by_sums(named):
        editor = Editor(litert_torch.convert(named, sample_kwargs={input_name: example}).model_content())
    deal_out(editor)
    editor.cap_by_minimum()
    editor.keep_ranks()
    return editor.packed()


@contextmanager
def _pooled_by_sums(tower: nn.Module) -> Iterator[None]:
    """In here a tower's scores of a pooled query are products and a sum. The query is a constant, and LiteRT's GPU has
    no product of matrices whose first factor is one: it then refuses all the products of a file (LiteRT 2.3.0)."""

    def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5 * k).sum(dim=-1)  # [N, heads, L]
        return scores.softmax(dim=-1).unsqueeze(2) @ v

    with ExitStack() as pools:
        for pool in (one for one in tower.modules() if isinstance(one, AttentionPool)):
            pools.enter_context(exchanged(pool, "attended", attended))
        yield


def _metadata(job: TowerJob) -> bytes:
    own: dict[str, Any] = {
        "variant": job.variant.name,
        "tower": job.tower,
        "precision": job.precision,
        "licence": job.licence,
        "embedding_space": job.embedding_space,
        "checkpoint_sha256": job.checkpoint_sha256,
    }
    if job.labels:
        own["labels"] = list(job.labels)
    return json.dumps(own, ensure_ascii=False).encode()


def _store(editor: Editor, place: int, values: Floats, grid: Grid, axis: int) -> None:
    """Store a weight on its grid: halves are raised to float32 before an operator takes them; integers are taken as
    they are, with activations that the runtime rounds to int8 as it goes."""
    if grid.kind == "integers" and grid.block is not None:
        integers, scales = _int4(values, grid)
        editor.store_int4(place, pack_int4(integers.reshape(-1), 0), scales, grid.block)
    elif grid.kind == "integers":
        eight, steps = int8_channels(values, axis)
        editor.store_int8(place, eight, steps.reshape(-1), axis)
    elif grid.bits == 16:
        editor.store_half(place, values.astype(np.float16))


def placed_layers(model: ModelFile, module: nn.Module, storage: Storage) -> dict[int, tuple[str, int]]:
    """Tensors of a float32 file that are weights of layers: place -> parameter, and the dimension of its outputs."""
    names = by_numbers(module, storage, floats=True) | _bands(module)
    found = {}
    for operator in model.operators:
        place = weight_place(model, operator)
        if place is None:
            continue
        values = in_torch_layout(operator, np.asarray(model.tensors[place].values))
        name = names.get(weight_sha256(values.reshape(len(values), -1)))
        if name is not None:
            found[place] = name, 3 if operator.type == "DEPTHWISE_CONV_2D" else 0
    return found


def _is_measured(parameter: str) -> bool:
    """Whether a weight's product takes int8 whose range was measured beforehand, at precisions that measure.

    Those of feed-forward blocks do, not those of squeeze-and-excite: they take most of the time. All others round what
    comes to int8 by the range that it has. Of S0's image tower on golden inputs, which reach beyond what was measured,
    the worst cosine is 0.9874 where all products have measured ranges and 0.9988 where these have, which is as fast.
    """
    return parameter.endswith((".fc1.weight", ".fc2.weight")) and ".se." not in parameter


def _bands(module: nn.Module) -> dict[str, str]:
    """`by_numbers` for 7 x 7 convolutions that may be written as three for each output of a group."""
    found = {}
    for layer in layers(module):
        conv = layer.module
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (KERNEL, KERNEL) and conv.groups == conv.in_channels:
            count = conv.out_channels // conv.groups
            for part, rows in product(range(count), KERNEL_ROWS):
                window = layer.weight.detach()[part::count, :, list(rows)]
                found[weight_sha256(window.flatten(1).numpy())] = layer.parameter
    return found


def _int4(rows: Floats, grid: Grid) -> tuple[npt.NDArray[np.int8], Floats]:
    """int4 [N, K] and scales [N, blocks]. XNNPACK keeps bfloat16 of a scale: the integers are those of that."""
    assert grid.block is not None
    scales = torch.from_numpy(int4_blocks(rows, grid.block, positive=True)[1]).bfloat16().float().numpy()
    steps = scales.repeat(grid.block, axis=1)[:, : rows.shape[1]]
    return np.clip(np.rint(rows / steps), -8, 7).astype(np.int8), scales


CHANNELS_LAST = [0, 2, 3, 1]


def take_bytes(editor: Editor) -> None:
    """Have an image tower take uint8 [1, S, S, 3], 0 to 255. Inside of the file channels come last anyway: the operator
    that turned floats goes, and bytes become floats as preprocessing makes them, divided by 255.

    Raises:
        ExportError: the converter put something else than that operator behind the input.
    """
    graph, schema = editor.graph, editor.schema
    (source,) = graph.inputs
    taking = [one for one in graph.operators if source in one.inputs]
    if len(taking) != 1 or not editor.is_type(taking[0], "TRANSPOSE"):
        raise ExportError("the converter does not turn the image first; export it without `nhwc_bytes`")
    (turned,) = taking
    order = editor.values(turned.inputs[1])
    if order is None or order.tolist() != CHANNELS_LAST:
        raise ExportError("the converter turns the image otherwise; export it without `nhwc_bytes`")
    (pixels,) = turned.outputs
    tensor, types = graph.tensors[source], schema.TensorType
    tensor.type, tensor.shape, tensor.shapeSignature = types.UINT8, list(graph.tensors[pixels].shape), None
    floats = editor.computed(tensor.name + b"_floats", tensor.shape)
    most = editor.constant(tensor.name + b"_most", np.full(1, 255, np.float32))
    kinds = schema.CastOptionsT(inDataType=types.UINT8, outDataType=types.FLOAT32)
    place = graph.operators.index(turned)
    graph.operators[place : place + 1] = [
        editor.operator("CAST", [source], floats, kinds),
        editor.operator("DIV", [floats, most], pixels, schema.DivOptionsT()),
    ]


# LiteRT's own quantizer knows which operators must share a scale and how a bias is rounded. Its own calibration follows
# the first input with a moving average, and its own recipe makes integers of inputs and outputs too; neither is used.
# What else there is stays float32: with GELU and additions in int8 as well it is no faster, and nano loses 0.6 dB.
OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def quantize_static(
    content: bytes, model: ModelFile, layers: Collection[int], inputs: npt.NDArray[np.generic]
) -> bytes:
    """A float32 file in int8, with float32 inputs and outputs.

    Args:
        model: the file read.
        layers: the weights whose products take such ranges; all others stay as they are.
        inputs: of the tower, [N, ...], which ranges are measured on.
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
    names = {place: model.tensors[place].name for place in float_places(model)}
    if len(set(names.values())) != len(names):
        raise ExportError("two tensors of the converted file have one name; their ranges cannot be told apart")
    ranges = ranges_of(lambda: computed_values(content, model, inputs))
    measured = {
        names[place]: {"min": np.float32(known.low), "max": np.float32(known.high)} for place, known in ranges.items()
    }
    found = quantizer.quantize(measured).quantized_model
    if found is None:
        raise ExportError("LiteRT's quantizer gave no file")
    return bytes(found)
