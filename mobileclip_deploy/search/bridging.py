"""An index of full embeddings, reduced to a bundle's smaller ones without the pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.pictures.embedding import unit
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import Store
from mobileclip_deploy.search.writing import create


@dataclass(frozen=True)
class BridgeDescription:
    """Both embedding spaces, and properties of the reduced index."""

    from_space: str
    to_space: str
    variant: str
    artifact: str
    store: str
    scale: float


@dataclass(frozen=True)
class BridgeResult:
    """Reduced index that was written. It contains `count` embeddings."""

    path: Path
    bridge: BridgeDescription
    count: int


def reduced_index(old: Index, bundle: Bundle, output: Path) -> BridgeResult:
    """Writes an index of a bundle's smaller embeddings, from all embeddings of an index of the full ones.

    An embedding times the axes that the bundle's towers end on, scaled to length 1, is that of the smaller tower.

    Raises:
        InvalidInput: the bundle has full embeddings; the index is of another space than its axes start from; or it
            contains sign bits only, which have no rotation.
        DiskFull: there is no room.
    """
    compacted = bundle.manifest.checkpoint.compacted
    if compacted is None:
        raise InvalidInput(f"{bundle.path} has full embeddings; embed the pictures again with it")
    if old.store.name == "bits-only":
        raise InvalidInput(f"{old.path} has signs only, which cannot be reduced; embed the pictures again")
    axes = Axes.read(bundle.axes).matrix
    space = old.description.embedding_space
    if space != compacted.from_space or old.store.dimension != len(axes):
        raise InvalidInput(
            f"{old.path} has the embedding space {space}, but {bundle.path} reduces {compacted.from_space}; embed the "
            "pictures again"
        )
    tower = bundle.manifest.towers.get(old.description.tower)
    description = Description(
        embedding_space=bundle.manifest.embedding_space,
        variant=bundle.manifest.variant,
        tower=old.description.tower,
        artifact="" if tower is None else tower.sha256,
        fast_jpeg=old.description.fast_jpeg,
    )
    scale = float(np.float32(compacted.int8_scale)) if old.store.scale else 0.0
    store = Store(old.store.name, axes.shape[1], scale)
    create(output, Header(store, description), ((ids, stamps, unit(rows @ axes)) for ids, stamps, rows in old.parts()))
    written = BridgeDescription(
        space, description.embedding_space, description.variant, description.artifact, store.name, scale
    )
    return BridgeResult(output, written, len(Index(output, check=False)))
