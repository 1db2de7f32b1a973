"""A tower as a Core AI program: torch.export, Apple's converter in release mode, our metadata; both in one asset."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.targets.coreai.asset import OWN, Asset, is_readable
from mobileclip_deploy.targets.coreai.image_entry import FromBytes, blank, take_image
from mobileclip_deploy.targets.foreign.coreai import CONTEXT, mlir
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.targets.values import TowerJob

# What a program of one function calls it; Core AI looks for this one where no other is named.
FUNCTION = "main"


class HalfTower(nn.Module):
    """A tower in float16 with float32 pixels (or integer ids) in and float32 embeddings out."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        return self.tower(x.half() if x.is_floating_point() else x).float()


def write_asset(
    job: TowerJob, path: Path, storage: Storage, input_name: str, output_name: str, picture: bool = False
) -> None:
    """Convert a tower and write the .aimodel, its weights as `storage` says.

    The same job gives the same content, not the same bytes: Apple's converter names constants and functions at random.

    Args:
        picture: an image tower takes one, 32-bit BGRA, in place of float32 pixels.

    Raises:
        ExportError: coreai-torch refused the tower.
    """
    with conversion(f"Core AI conversion of the {job.tower} tower"), torch.no_grad(), hold_back():
        program = convert(job, storage, input_name, output_name, picture)
        program.save_asset(path, _metadata(job))
    is_readable(path)


def convert(job: TowerJob, storage: Storage, input_name: str, output_name: str, picture: bool = False) -> Any:
    """A tower as coreai's AIProgram."""
    import coreai_torch

    from mobileclip_deploy.targets.coreai.compression import compressed

    module = job.module if job.precision == "fp32" else compressed(job.module, storage)
    if job.precision != "fp32":
        module = HalfTower(module).eval()
    example = job.example if job.tower == "image" else job.example.to(torch.int32)
    if picture:
        module, example = FromBytes(module).eval(), blank(example)
    exported = torch.export.export(module, (example,)).run_decompositions(coreai_torch.get_decomp_table())
    # The other mode writes where on this machine each operation's code stands.
    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    program = converter.add_exported_program(
        exported, input_names=[input_name], output_names=[output_name], entrypoint_name=FUNCTION
    ).to_coreai()
    if picture:
        take_image(program)
    return program


def _metadata(job: TowerJob) -> Any:
    length = "at length 1" if job.normalised else "not normalised"
    what = f"{job.tower} tower, {job.precision}: embedding of dimension {job.variant.embed_dim}, {length}"
    own: dict[str, Any] = {
        "variant": job.variant.name,
        "tower": job.tower,
        "precision": job.precision,
        "embedding_space": job.embedding_space,
        "checkpoint_sha256": job.checkpoint_sha256,
    }
    if job.labels:
        what = f"{job.precision}: classifier of {len(job.labels)} labels"
        own["labels"] = list(job.labels)
    return metadata_of(f"{job.variant.title}, {what}", job.licence, own)


def metadata_of(description: str, licence: str, own: Mapping[str, Any]) -> Any:
    """What stands beside a program: `own` is by names that nobody but us gives a meaning."""
    from coreai.runtime import AIModelAssetMetadata

    metadata = AIModelAssetMetadata()
    metadata.author = "converted by mobileclip-deploy"
    metadata.license = licence
    metadata.model_description = description
    for name, value in own.items():
        metadata.set_custom(name, value)
    return metadata


def join(towers: Mapping[TowerName, Path], path: Path, variant: Variant) -> None:
    """Write one asset whose functions are called as the towers, and remove those that it was made of.

    Args:
        towers: asset of each tower, of one function.
        path: of the new asset.

    Raises:
        ExportError: coreai-core refused them.
    """
    with conversion("Core AI asset of both towers"), hold_back():
        ir = mlir()
        from coreai.authoring import Context

        context = CONTEXT(Context())
        first = Asset(next(iter(towers.values())), context)
        precisions = {}
        for tower, source in towers.items():
            asset = first if source == first.path else Asset(source, context)
            with context, ir.Location.unknown():
                asset.function(None).attributes["sym_name"] = ir.StringAttr.get(tower)
                precisions[tower] = asset.metadata[OWN]["precision"]
                if asset is not first:
                    for graph in asset.graphs.values():
                        graph.operation.clone(ip=ir.InsertionPoint(first.module.body))
        own = dict(first.metadata[OWN])
        own["precision"] = ",".join(f"{tower}={precision}" for tower, precision in precisions.items())
        del own["tower"]
        description = f"{variant.title}, both towers, a function each: embeddings of dimension {variant.embed_dim}"
        first.program.save_asset(path, metadata_of(description, first.metadata["license"], own))
    is_readable(path)
    for source in towers.values():
        shutil.rmtree(source)
