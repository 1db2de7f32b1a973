"""A tower as a .tflite: written for XNNPACK, converted by litert-torch, its weights stored as the storage says."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.attention import AttentionPool
from mobileclip_deploy.model.provenance import weight_sha256
from mobileclip_deploy.targets.depthwise import KERNEL, KERNEL_ROWS
from mobileclip_deploy.targets.grids.encode import int4_blocks, int8_channels, pack_int4
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.litert.bands import deal_out
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import ModelFile, parse_model
from mobileclip_deploy.targets.litert.pixels import take_bytes
from mobileclip_deploy.targets.litert.static import quantize_static
from mobileclip_deploy.targets.litert.storage import is_measured
from mobileclip_deploy.targets.litert.weights import in_torch_layout, output_axis, weight_place
from mobileclip_deploy.targets.quiet import conversion, hold_back
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

    Raises:
        ExportError: a converter refused the tower.
    """
    with conversion(f"LiteRT conversion of the {job.tower} tower"), torch.no_grad(), hold_back():
        content = job.once("litert", lambda: _converted(job, source.name, result.name))
        model, stored = parse_model(content), frozenset[int]()
        if job.calibration is not None:
            placed = placed_layers(model, job.module, storage)
            layers = [
                place for place, (name, _) in placed.items() if storage[name].kind == "integers" and is_measured(name)
            ]
            content = quantize_static(content, model, layers, job.calibration)
            stored = frozenset(place for place, tensor in enumerate(parse_model(content).tensors) if tensor.quantized)
        editor = Editor(content)
        store_weights(editor, model, job.module, storage, stored)
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

    pools = [one for one in tower.modules() if isinstance(one, AttentionPool)]
    for pool in pools:
        pool.attended = attended  # type: ignore[method-assign]
    try:
        yield
    finally:
        for pool in pools:
            del pool.attended


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


Floats = npt.NDArray[np.float32]


def store_weights(
    editor: Editor, model: ModelFile, module: nn.Module, storage: Storage, stored: Collection[int] = ()
) -> None:
    """Store the weights of a float32 file as the storage says: halves are raised to float32 before an operator takes
    them; integers are taken as they are, with activations that the runtime rounds to int8 as it goes.

    Args:
        model: the file that `editor` changes.
        module: what was converted.
        stored: weights that are integers already.

    Raises:
        ExportError: a weight that is to be stored on a grid does not stand in the file.
    """
    found = placed_layers(model, module, storage)
    require_all(storage, [name for name, _ in found.values()])
    for place, (name, axis) in found.items():
        grid, values = storage[name], model.tensors[place].values
        assert values is not None
        if place in stored:
            continue
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
            found[place] = name, output_axis(operator)
    return found


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
    scales = bfloat16(int4_blocks(rows, grid.block, positive=True)[1])
    steps = scales.repeat(grid.block, axis=1)[:, : rows.shape[1]]
    return np.clip(np.rint(rows / steps), -8, 7).astype(np.int8), scales


def bfloat16(values: Floats) -> Floats:
    """Numbers rounded to bfloat16, as float32."""
    return torch.from_numpy(values).bfloat16().float().numpy()
