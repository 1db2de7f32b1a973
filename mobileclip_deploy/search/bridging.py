"""Maps from one embedding space to another, learned from pictures that two indices share.

A bridge moves a library to a new model without its pictures. A bridge that would change the search results too much is
refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files.arrays import Doubles, Floats
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import Name
from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.base.intervals import Interval, mean_interval
from mobileclip_deploy.errors import REASON, GateFailed, InvalidInput, first_problem, reraising
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.writing import write_tensors
from mobileclip_deploy.pictures.embedding import unit
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import STORES, Store
from mobileclip_deploy.search.writing import create
from mobileclip_deploy.spaces.relevance_fit import ridge

LEAST_PAIRS = 64
HELD_BACK = 5
"""Step of the shared pictures that are held back: every fifth. They are not learned from, and all figures are measured
on them."""
FIRST = 10
LEAST_SHARED = 50.0
"""Percent. Minimum share of the first ten matches that a bridged library has in common with a newly embedded one (lower
end of the interval). Below it a user sees mostly other pictures, and the pictures should be embedded again."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Weights of the penalty of the affine map, in parts of the mean variance of a component."""


class BridgeFigures(BaseModel, frozen=True):
    """Figures of the quality of a bridge, measured among the pictures that it was not learned from.

    Attributes:
        kind: "orthogonal", or "affine" if that was nearer on a part of the learned pictures that was set aside.
        pairs: number of pictures that the bridge was learned from.
        held_back: number of pictures that the figures are measured on.
        shared: share of the first ten matches of a picture's new embedding that are also found among bridged ones, in
            percent. With fewer than 100 held-back pictures, a tenth of them is used instead of ten.
        own_first: share of the held-back pictures whose bridged embedding is nearest to their own new one, in percent.
        cosine: mean of the cosines between bridged and new embedding.
    """

    kind: Literal["orthogonal", "affine"]
    pairs: int
    held_back: int
    shared: Interval
    own_first: Interval
    cosine: FiniteFloat


class BridgeDescription(BaseModel, frozen=True, extra="ignore"):
    """Description in a bridge file: both spaces, and properties of an index in the new one. `figures` is None for the
    axes that the new space was made with: they are the exact map, and nothing was learned."""

    from_space: str = Field(min_length=1, max_length=1000)
    to_space: str = Field(min_length=1, max_length=1000)
    variant: str = Field(max_length=1000)
    artifact: str = Field(default="", max_length=1000)
    store: Name = "int8"
    scale: FiniteFloat = Field(ge=0, le=1)
    figures: BridgeFigures | None = None


@dataclass(frozen=True)
class Bridge:
    """A map: an embedding [D1] of the old space times `matrix` [D1, D2], plus `offset` [D2], scaled to length 1."""

    matrix: Floats
    offset: Floats
    description: BridgeDescription

    def __call__(self, vectors: Floats) -> Floats:
        """Returns embeddings [N, D2] of length 1 in the new space for embeddings [N, D1] of the old one."""
        return unit(vectors @ self.matrix + self.offset)

    @classmethod
    def of_axes(cls, bundle: Bundle, old: Index) -> Bridge:
        """Returns the map from full embeddings to the smaller ones of a bundle, from the axes that its towers end on.

        Raises:
            InvalidInput: the bundle has full embeddings, or the index contains sign bits only, which have no rotation.
        """
        compacted = bundle.manifest.checkpoint.compacted
        if compacted is None:
            raise InvalidInput(f"{bundle.path} has full embeddings; learn a bridge from pictures with `to`")
        if old.store.name == "bits-only":
            raise InvalidInput(f"{old.path} has signs only, which cannot be reduced; embed the pictures again")
        tower = bundle.manifest.towers.get(old.description.tower)
        description = BridgeDescription(
            from_space=compacted.from_space,
            to_space=bundle.manifest.embedding_space,
            variant=bundle.manifest.variant,
            artifact="" if tower is None else tower.sha256,
            store=old.store.name,
            scale=float(np.float32(compacted.int8_scale)) if old.store.scale else 0.0,
        )
        return cls(Axes.read(bundle.axes).matrix, np.zeros(compacted.size, np.float32), description)

    def save(self, path: Path) -> None:
        """Writes a .safetensors file: `matrix`, `offset`, and the description in the metadata.

        Raises:
            InvalidInput: the file cannot be written.
        """
        tensors = {"matrix": torch.from_numpy(self.matrix), "offset": torch.from_numpy(self.offset)}
        write_tensors(path, tensors, {"bridge": self.description.model_dump_json()})

    @classmethod
    def read(cls, path: Path) -> Bridge:
        """Reads a file that `save` wrote.

        Raises:
            InvalidInput: the file is not a bridge.
        """
        refusal = f"{path} is not a bridge ({REASON}); `bridge` learns one"
        tensors, metadata = read_tensors(path, refusal)
        try:
            with reraising(refusal, KeyError):
                matrix, offset, text = tensors["matrix"], tensors["offset"], metadata["bridge"]
            description = parse_model(BridgeDescription, text)
        except ValidationError as error:
            raise InvalidInput(f"{path} is not a valid bridge: {first_problem(error)}; learn it again") from None
        if description.figures is None:
            raise InvalidInput(f"{path} is not a valid bridge: it has no measured figures; learn it again")
        fits = matrix.ndim == 2 and offset.shape == matrix.shape[1:] and matrix.dtype == offset.dtype == np.float32
        store = description.store
        scaled = store in STORES and (description.scale > 0) == (store in ("int8", "bits"))  # as an index's header
        if not (fits and scaled and np.isfinite(matrix).all() and np.isfinite(offset).all()):
            raise InvalidInput(f"{path} is not a valid bridge (inconsistent shapes or dtypes); learn it again")
        return cls(matrix, offset, description)


@dataclass(frozen=True)
class BridgeResult:
    """File that was written: the map, or the bridged index, which contains `count` embeddings."""

    path: Path
    bridge: BridgeDescription
    count: int | None


def learn(old: Index, new: Index) -> Bridge:
    """Returns a bridge from the space of `old` to that of `new`, learned from the pictures with the same id in both.

    The map is orthogonal (Procrustes: the SVD of the cross-covariance; between spaces of different dimension, its part
    of the smaller rank). It is affine, by ridge regression, if that is nearer on a fifth of the learned part.

    Raises:
        InvalidInput: both indices are of one space, they mix texts and images, or they share fewer than 64 pictures.
        GateFailed: less than half of the first ten matches are shared (`LEAST_SHARED`).
    """
    target = new.description
    if old.description.embedding_space == target.embedding_space:
        raise InvalidInput(f"{old.path} and {new.path} have the same embedding space; no bridge is needed")
    if old.description.tower != target.tower:
        raise InvalidInput(f"{old.path} holds {old.description.tower}s and {new.path} {target.tower}s")
    before, after = _shared(old, new)
    if len(before) < LEAST_PAIRS:
        raise InvalidInput(
            f"{old.path} and {new.path} share {len(before)} ids, and a bridge needs {LEAST_PAIRS}; embed more of the "
            "same pictures, by the same paths, into the new index"
        )
    held_back = np.arange(len(before)) % HELD_BACK == HELD_BACK - 1
    kind, matrix, offset = _nearest_map(before[~held_back].astype(np.float64), after[~held_back].astype(np.float64))
    bridged = unit((before[held_back] @ matrix + offset).astype(np.float32))
    figures = _figures(kind, int((~held_back).sum()), bridged, after[held_back])
    if figures.shared.low < LEAST_SHARED:
        raise GateFailed(
            f"a bridged library would share {figures.shared.value:.0f}% ({figures.shared.low:.0f} to "
            f"{figures.shared.high:.0f}%) of the first matches with a newly embedded one; at least {LEAST_SHARED:.0f}% "
            "is needed; embed the pictures again, or learn from more of them"
        )
    description = BridgeDescription(
        from_space=old.description.embedding_space,
        to_space=target.embedding_space,
        variant=target.variant,
        artifact=target.artifact,
        store=new.store.name,
        scale=new.store.scale,
        figures=figures,
    )
    return Bridge(matrix.astype(np.float32), offset.astype(np.float32), description)


def cross(old: Index, bridge: Bridge, output: Path) -> Index:
    """Writes an index of the new space with all embeddings of an old one.

    The new description names the old space in `bridged_from`. With the axes that the new space was made with it does
    not: the result equals new embeddings of the pictures.

    Raises:
        InvalidInput: the index is of another space than the bridge starts from.
        DiskFull: there is no room.
    """
    mapping = bridge.description
    if old.description.embedding_space != mapping.from_space or old.store.dimension != len(bridge.matrix):
        space = old.description.embedding_space
        raise InvalidInput(f"{old.path} has the embedding space {space}, but the bridge is from {mapping.from_space}")
    description = Description(
        embedding_space=mapping.to_space,
        variant=mapping.variant,
        tower=old.description.tower,
        artifact=mapping.artifact,
        fast_jpeg=old.description.fast_jpeg,
        bridged_from=None if mapping.figures is None else mapping.from_space,
    )
    parts = ((ids, stamps, bridge(vectors)) for ids, stamps, vectors in old.parts())
    create(output, Header(Store(mapping.store, bridge.matrix.shape[1], mapping.scale), description), parts)
    return Index(output, check=False)


def _shared(old: Index, new: Index) -> tuple[Floats, Floats]:
    """Returns the embeddings of the ids that both indices contain, in the order of the old index."""
    by_id = {name: vector for ids, vectors in new.vectors() for name, vector in zip(ids, vectors, strict=True)}
    pairs = [
        (vector, by_id[name])
        for ids, vectors in old.vectors()
        for name, vector in zip(ids, vectors, strict=True)
        if name in by_id
    ]
    if not pairs:
        return np.zeros((0, old.store.dimension), np.float32), np.zeros((0, new.store.dimension), np.float32)
    before, after = zip(*pairs, strict=True)
    return unit(np.stack(before)), unit(np.stack(after))


def _nearest_map(before: Doubles, after: Doubles) -> tuple[Literal["orthogonal", "affine"], Doubles, Doubles]:
    """Returns the better of both kinds of map, learned from all pairs. Each candidate is judged on a fifth of the pairs
    after learning from the others."""
    aside = np.arange(len(before)) % HELD_BACK == HELD_BACK - 1

    def nearness(matrix: Doubles, offset: Doubles) -> float:
        bridged = before[aside] @ matrix + offset
        return float(np.mean((bridged * after[aside]).sum(1) / np.linalg.norm(bridged, axis=1)))

    ways = {penalty: ridge(before[~aside], after[~aside], penalty) for penalty in RIDGES}
    best = max(RIDGES, key=lambda penalty: nearness(*ways[penalty]))
    if nearness(*ways[best]) > nearness(*_orthogonal(before[~aside], after[~aside])):
        return "affine", *ridge(before, after, best)
    return "orthogonal", *_orthogonal(before, after)


def _orthogonal(before: Doubles, after: Doubles) -> tuple[Doubles, Doubles]:
    """Returns the rotation (and reflection) with the smallest squared distance: U V^T of the SVD of before^T after,
    which is Schoenemann's solution of the Procrustes problem."""
    left, _, right = np.linalg.svd(before.T @ after, full_matrices=False)
    return left @ right, np.zeros(after.shape[1])


def _figures(kind: Literal["orthogonal", "affine"], pairs: int, bridged: Floats, after: Floats) -> BridgeFigures:
    """Returns the figures of a map. Each held-back picture is a query with its new embedding; the picture itself is not
    counted among the matches."""
    by_new, by_bridged = after @ after.T, after @ bridged.T
    own_first = by_bridged.argmax(1) == np.arange(len(after))
    np.fill_diagonal(by_new, -np.inf)
    np.fill_diagonal(by_bridged, -np.inf)
    count = max(1, min(FIRST, len(after) // 10))  # of few pictures, ten would be shared by chance
    nearest = [np.argsort(-scores, axis=1, kind="stable")[:, :count] for scores in (by_new, by_bridged)]
    shared = [len(set(first) & set(second)) / count for first, second in zip(*nearest, strict=True)]
    return BridgeFigures(
        kind=kind,
        pairs=pairs,
        held_back=len(after),
        shared=mean_interval(np.asarray(shared)),
        own_first=mean_interval(own_first.astype(np.float64)),
        cosine=float((bridged * after).sum(1).mean()),
    )
