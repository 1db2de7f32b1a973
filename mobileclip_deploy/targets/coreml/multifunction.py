"""Both towers in one .mlpackage, a function each: one file to ship, constants that both hold stored once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.variants import TOWERS, TowerName, Variant
from mobileclip_deploy.targets.coreml.package import SPECIFICATION, make_reproducible
from mobileclip_deploy.targets.coreml.recipes import is_older, settle_target
from mobileclip_deploy.targets.quiet import conversion

__all__ = ["join", "settle_multifunction"]

OLDEST = "iOS18"


def settle_multifunction(precisions: Mapping[TowerName, str], wanted: str | None) -> str:
    """The deployment target of a package with functions: as wanted, or what functions need.

    Raises:
        UsageError: older than functions or a precision need, or there is only one tower.
    """
    if set(precisions) != set(TOWERS):
        (tower,) = precisions
        raise UsageError(f"--multifunction puts both towers into one package; leave it out for the {tower} tower alone")
    target = settle_target(list(precisions.values()), wanted or OLDEST)
    if is_older(target, OLDEST):
        raise UsageError(
            f"--multifunction needs {OLDEST} (packages of several functions), and the deployment target given is "
            f"{target}; give {OLDEST} or leave one of the two out"
        )
    return target


def join(towers: Mapping[TowerName, Path], path: Path, variant: Variant) -> None:
    """Write one package whose functions are called as the towers, and remove the packages it was made of.

    Args:
        towers: package of each tower, for iOS18 or later. The first is the default function.
        path: of the new package.

    Raises:
        ExportError: coremltools refused them.
    """
    with conversion("Core ML package of both towers"):
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
