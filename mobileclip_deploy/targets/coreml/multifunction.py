"""Both towers in one .mlpackage, one function per tower: one file to ship, constants that both hold stored once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.targets.mlpackage import SPECIFICATION, import_coremltools, make_reproducible
from mobileclip_deploy.targets.quiet import conversion

__all__ = ["join"]


def join(towers: Mapping[TowerName, Path], path: Path, variant: Variant) -> None:
    """Write one package whose functions are called as the towers, and remove the packages it was made of.

    Args:
        towers: package of each tower, for iOS18 or later. The first is the default function.
        path: of the new package.

    Raises:
        ExportError: coremltools refused them.
    """
    with conversion("Core ML package of both towers"):
        import_coremltools()
        from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

        functions = MultiFunctionDescriptor()
        for tower, package in towers.items():
            functions.add_function(str(package), "main", tower)
        functions.default_function_name = next(iter(towers))
        save_multifunction(functions, str(path))
        _describe(path, variant, next(iter(towers.values())))
        make_reproducible(path)
    for package in towers.values():
        shutil.rmtree(package)


def _describe(path: Path, variant: Variant, first: Path) -> None:
    """Author, licence and version as in the packages it was made of: coremltools drops them."""
    from coremltools.proto import Model_pb2

    model, source = (Model_pb2.Model.FromString((one / SPECIFICATION).read_bytes()) for one in (path, first))
    model.description.metadata.CopyFrom(source.description.metadata)
    model.description.metadata.shortDescription = (
        f"{variant.title}, both towers, a function each: embeddings of dimension {variant.embed_dim}"
    )
    (path / SPECIFICATION).write_bytes(model.SerializeToString())
