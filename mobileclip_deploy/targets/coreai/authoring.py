"""Conversion of a tower to a Core AI program: its weights put on their grids, torch.export, Apple's converter in
release mode, our metadata.

The integers, scales and tables are ours. Apple's own palettizer rounds float16 weights to four decimal places first.
Values above 6.55 overflow there, and the weight stays uncompressed without a message (coreai-opt 0.3.0).
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobileclip_deploy.targets.coreai.asset import FUNCTION, is_readable
from mobileclip_deploy.targets.grids.encode import integers_of, tables_of
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.targets.values import TowerJob
from mobileclip_deploy.targets.vendor_internals.coreai import LAYERS


class HalfTower(nn.Module):
    """A tower in float16 with float32 pixels (or integer ids) in and float32 embeddings out."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        return self.tower(x.half() if x.is_floating_point() else x).float()


def write_asset(job: TowerJob, path: Path, storage: Storage, input_name: str, output_name: str) -> None:
    """Converts a tower and writes the .aimodel, with its weights stored by `storage`.

    The same job gives the same content, not the same bytes: Apple's converter names constants and functions at random.
    """
    with conversion(f"Core AI conversion of the {job.tower} tower"), torch.no_grad(), hold_back():
        import coreai_torch

        module = job.module
        if job.precision != "fp32":
            module = HalfTower(compressed(module, storage)).eval()
        example = job.example if job.tower == "image" else job.example.to(torch.int32)
        exported = torch.export.export(module, (example,)).run_decompositions(coreai_torch.get_decomp_table())
        # The other mode writes local source locations of each operation.
        converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
        program = converter.add_exported_program(
            exported, input_names=[input_name], output_names=[output_name], entrypoint_name=FUNCTION
        ).to_coreai()
        program.save_asset(path, _metadata(job))
    is_readable(path)


def _metadata(job: TowerJob) -> Any:
    length = "at length 1" if job.form.normalised else "not normalised"
    summary = f"{job.tower} tower, {job.precision}: embedding of dimension {job.variant.embed_dim}, {length}"
    custom: dict[str, Any] = {
        "variant": job.variant.name,
        "tower": job.tower,
        "precision": job.precision,
        "embedding_space": job.embedding_space,
        "checkpoint_sha256": job.checkpoint_sha256,
    }
    if job.labels:
        summary = f"{job.precision}: classifier of {len(job.labels)} labels"
        custom["labels"] = list(job.labels)
    return metadata_of(f"{job.variant.title}, {summary}", job.licence, custom)


def metadata_of(description: str, licence: str, own: Mapping[str, Any]) -> Any:
    """Builds the metadata of a program; `own` has our own keys, which only we interpret."""
    from coreai.runtime import AIModelAssetMetadata

    metadata = AIModelAssetMetadata()
    metadata.author = "converted by mobileclip-deploy"
    metadata.license = licence
    metadata.model_description = description
    for name, value in own.items():
        metadata.set_custom(name, value)
    return metadata


class Integers(nn.Module):
    """int8 (or int4 stored as int8) with float16 scales, restored by `blockwise_shift_scale`."""

    data: Tensor
    scale: Tensor

    def __init__(self, data: Tensor, scale: Tensor, bits: int) -> None:
        super().__init__()
        self.register_buffer("data", data)
        self.register_buffer("scale", scale)
        self.dtype = torch.int8 if bits == 8 else torch.int4  # type: ignore[attr-defined]  # missing in its stubs

    def forward(self, _: Tensor) -> Tensor:
        return torch.ops.coreai.constexpr_blockwise_shift_scale(self.data, self.scale, None, None, self.dtype, None)


class PaletteTables(nn.Module):
    """Indices (one byte per index here, their own bits in the file) into tables of float16, restored by `lut_to_dense`.

    coreai-torch finds the indices by this name to narrow them.
    """

    indices: Tensor
    lut: Tensor

    def __init__(self, indices: Tensor, lut: Tensor) -> None:
        super().__init__()
        self.register_buffer("indices", indices)
        self.register_buffer("lut", lut)

    def forward(self, _: Tensor) -> Tensor:
        return torch.ops.coreai.lut_to_dense(self.indices, self.lut, 0)


def compressed(module: nn.Module, storage: Storage) -> nn.Module:
    """Returns a float16 copy of a tower with its weights on their grids; float weights are rounded once.

    Args:
        module: the folded tower in float32; it stays as it is.
    """
    LAYERS()
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    half = copy.deepcopy(
        module, {id(tensor): _half(tensor, whole=storage[name].kind == "float") for name, tensor in tensors.items()}
    )
    for name, grid in storage.items():
        if grid.kind == "float":
            continue
        owner, _, attribute = name.rpartition(".")
        values = tensors[name].detach()
        restored = Integers(*integers_of(values, grid), grid.bits) if grid.kind == "integers" else None
        parametrize.register_parametrization(
            half.get_submodule(owner), attribute, restored or PaletteTables(*tables_of(values, grid)), unsafe=True
        )
    return half


def _half(tensor: Tensor, whole: bool) -> Tensor:
    """Returns a tensor in float16; an empty one if it will be restored from its grid."""
    if not tensor.is_floating_point():
        return tensor
    values = tensor.detach().half() if whole else torch.empty(0, dtype=torch.float16)
    return nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values
