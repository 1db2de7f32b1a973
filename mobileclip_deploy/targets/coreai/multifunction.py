"""Both towers in one .aimodel, one function per tower: one file to ship and to load from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.targets.coreai.asset import OWN, Asset, is_readable
from mobileclip_deploy.targets.coreai.authoring import metadata_of
from mobileclip_deploy.targets.foreign.coreai import CONTEXT, mlir
from mobileclip_deploy.targets.quiet import conversion, hold_back

__all__ = ["join"]


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
