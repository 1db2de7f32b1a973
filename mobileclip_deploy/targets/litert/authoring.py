"""A tower as a .tflite: written for XNNPACK, converted by litert-torch, its weights stored as the storage says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.litert.bands import deal_out
from mobileclip_deploy.targets.litert.editing import Editor
from mobileclip_deploy.targets.litert.model_file import parse_model
from mobileclip_deploy.targets.litert.pixels import take_bytes
from mobileclip_deploy.targets.litert.quantizing import placed_layers, store_weights
from mobileclip_deploy.targets.litert.static import quantize_static
from mobileclip_deploy.targets.litert.storage import is_measured
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

__all__ = ["METADATA", "write_model"]

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
    editor = Editor(litert_torch.convert(named, sample_kwargs={input_name: example}).model_content())
    deal_out(editor)
    editor.cap_by_minimum()
    editor.keep_ranks()
    return editor.packed()


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
