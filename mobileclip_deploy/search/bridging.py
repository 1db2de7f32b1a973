"""A map from one embedding space to another, learned from pictures that two indices share: a library changes its model
without its pictures. It is refused where what a user would find changes too much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError, safe_open

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.base.files.arrays import Doubles, Floats
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import Name
from mobileclip_deploy.base.intervals import Interval, mean_interval
from mobileclip_deploy.errors import GateFailed, InvalidInput, first_problem, worded
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
"""Every fifth shared picture is held back: it is not learned from, and the figures are of these alone."""
FIRST = 10
LEAST_SHARED = 50.0
"""Percent. A bridged library has to share half of the first ten matches with one that was embedded anew (the lower end
of the interval): below it a user sees mostly other pictures, and the pictures should be embedded again."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Weights of the affine map's penalty, in parts of the mean variance of a component."""


class BridgeFigures(BaseModel, frozen=True):
    """How good a bridge is, on pictures that it was not learned from, each among all of these.

    Attributes:
        kind: "orthogonal", or "affine" where that was nearer on pictures of the learned part that were set aside.
        pairs: pictures that were learned from.
        held_back: pictures that the figures are of.
        shared: of the first ten matches that a picture's new embedding finds (a tenth of the held-back pictures, where
            they are fewer than 100), those that it finds among bridged ones too, in percent.
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
    """What a bridge's file says of it: from which space to which, and what a new index there is like. `figures`: None
    of the axes that the new space was made with: they are the map itself, and nothing was learned."""

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
        """Embeddings [N, D2] of length 1 in the new space, of embeddings [N, D1] in the old."""
        return unit(vectors @ self.matrix + self.offset)

    @classmethod
    def of_axes(cls, bundle: Bundle, old: Index) -> Bridge:
        """From full embeddings to a bundle's smaller ones: by the axes that its towers end on.

        Raises:
            InvalidInput: the bundle has full embeddings, or the index holds signs alone, which have no rotation.
        """
        told = bundle.manifest.checkpoint.compacted
        if told is None:
            raise InvalidInput(f"{bundle.path} has full embeddings; learn a bridge from pictures with `to`")
        if old.store.name == "bits-only":
            raise InvalidInput(f"{old.path} holds signs alone, which cannot be cut; embed the pictures again")
        tower = bundle.manifest.towers.get(old.description.tower)
        description = BridgeDescription(
            from_space=told.from_space,
            to_space=bundle.manifest.embedding_space,
            variant=bundle.manifest.variant,
            artifact="" if tower is None else tower.sha256,
            store=old.store.name,
            scale=float(np.float32(told.int8_scale)) if old.store.scale else 0.0,
        )
        return cls(Axes.read(bundle.axes).matrix, np.zeros(told.size, np.float32), description)

    def save(self, path: Path) -> None:
        """Write as .safetensors: `matrix`, `offset`, and the description in the metadata.

        Raises:
            InvalidInput: it cannot be written.
        """
        tensors = {"matrix": torch.from_numpy(self.matrix), "offset": torch.from_numpy(self.offset)}
        write_tensors(path, tensors, {"bridge": self.description.model_dump_json()})

    @classmethod
    def read(cls, path: Path) -> Bridge:
        """Read what `save` wrote.

        Raises:
            InvalidInput: it is no bridge.
        """
        try:
            check_tensors(path)
            with safe_open(path, framework="np") as file:
                told = (file.metadata() or {})["bridge"]
                matrix, offset = file.get_tensor("matrix"), file.get_tensor("offset")
            description = parse_model(BridgeDescription, told)
        except ValidationError as error:
            raise InvalidInput(f"{path} is no bridge: {first_problem(error)}; learn it again") from None
        except (SafetensorError, OSError, KeyError) as error:
            raise InvalidInput(f"{path} is no bridge ({worded(error)}); `bridge` learns one") from None
        if description.figures is None:
            raise InvalidInput(f"{path} is no bridge: it does not say how near it comes; learn it again")
        fits = matrix.ndim == 2 and offset.shape == matrix.shape[1:] and matrix.dtype == offset.dtype == np.float32
        store = description.store
        scaled = store in STORES and (description.scale > 0) == (store in ("int8", "bits"))  # as an index's header
        if not (fits and scaled and np.isfinite(matrix).all() and np.isfinite(offset).all()):
            raise InvalidInput(f"{path} is no bridge: its numbers do not fit; learn it again")
        return cls(matrix, offset, description)


@dataclass(frozen=True)
class BridgeResult:
    """What was written: the map, or the index that it brought across, which holds `count` embeddings."""

    path: Path
    bridge: BridgeDescription
    count: int | None


def learn(old: Index, new: Index) -> Bridge:
    """A bridge from the space of `old` to that of `new`, from the pictures that both hold by the same id.

    Orthogonal (Procrustes: the SVD of the cross-covariance; of spaces with fewer numbers its part of that rank), or
    affine by ridge regression where that is nearer on a fifth of the learned part.

    Raises:
        InvalidInput: both are of one space, of texts and images, or share fewer than 64 pictures.
        GateFailed: less than half of the first ten matches are shared (`LEAST_SHARED`).
    """
    told = new.description
    if old.description.embedding_space == told.embedding_space:
        raise InvalidInput(f"{old.path} and {new.path} are of one embedding space; no bridge is needed")
    if old.description.tower != told.tower:
        raise InvalidInput(f"{old.path} holds {old.description.tower}s and {new.path} {told.tower}s")
    before, after = _shared(old, new)
    if len(before) < LEAST_PAIRS:
        raise InvalidInput(
            f"{old.path} and {new.path} share {len(before)} ids, and a bridge needs {LEAST_PAIRS}; embed more of the "
            "same pictures, by the same paths, into the new index"
        )
    held = np.arange(len(before)) % HELD_BACK == HELD_BACK - 1
    kind, matrix, offset = _nearest_map(before[~held].astype(np.float64), after[~held].astype(np.float64))
    bridged = unit((before[held] @ matrix + offset).astype(np.float32))
    figures = _figures(kind, int((~held).sum()), bridged, after[held])
    if figures.shared.low < LEAST_SHARED:
        raise GateFailed(
            f"a bridged library would share {figures.shared.value:.0f}% ({figures.shared.low:.0f} to "
            f"{figures.shared.high:.0f}%) of the first matches with one that is embedded anew, and at least "
            f"{LEAST_SHARED:.0f}% is asked; embed the pictures again, or learn from more of them"
        )
    description = BridgeDescription(
        from_space=old.description.embedding_space,
        to_space=told.embedding_space,
        variant=told.variant,
        artifact=told.artifact,
        store=new.store.name,
        scale=new.store.scale,
        figures=figures,
    )
    return Bridge(matrix.astype(np.float32), offset.astype(np.float32), description)


def cross(old: Index, bridge: Bridge, output: Path) -> Index:
    """Write an index of the new space with all that an old one holds. Its description says that it was bridged, unless
    by the axes that the space was made with: these embeddings are what embedding the pictures anew gives.

    Raises:
        InvalidInput: the index is of another space than the bridge is from.
        DiskFull: there is no room.
    """
    told = bridge.description
    if old.description.embedding_space != told.from_space or old.store.dimension != len(bridge.matrix):
        space = old.description.embedding_space
        raise InvalidInput(f"{old.path} is of the embedding space {space}, and the bridge is from {told.from_space}")
    description = Description(
        embedding_space=told.to_space,
        variant=told.variant,
        tower=old.description.tower,
        artifact=told.artifact,
        fast_jpeg=old.description.fast_jpeg,
        bridged_from=None if told.figures is None else told.from_space,
    )
    parts = ((ids, stamps, bridge(vectors)) for ids, stamps, vectors in old.parts())
    create(output, Header(Store(told.store, bridge.matrix.shape[1], told.scale), description), parts)
    return Index(output, check=False)


def _shared(old: Index, new: Index) -> tuple[Floats, Floats]:
    """Embeddings of the ids that both hold, in the order of the old index."""
    known = {name: vector for ids, vectors in new.vectors() for name, vector in zip(ids, vectors, strict=True)}
    pairs = [
        (vector, known[name])
        for ids, vectors in old.vectors()
        for name, vector in zip(ids, vectors, strict=True)
        if name in known
    ]
    if not pairs:
        return np.zeros((0, old.store.dimension), np.float32), np.zeros((0, new.store.dimension), np.float32)
    before, after = zip(*pairs, strict=True)
    return unit(np.stack(before)), unit(np.stack(after))


def _nearest_map(before: Doubles, after: Doubles) -> tuple[Literal["orthogonal", "affine"], Doubles, Doubles]:
    """The map that brings a fifth of the pairs nearest when it is learned from the others; learned from all."""
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
    """The rotation (and reflection) with the smallest squared distance, by Schoenemann's solution of the Procrustes
    problem: U V^T of the SVD of before^T after."""
    left, _, right = np.linalg.svd(before.T @ after, full_matrices=False)
    return left @ right, np.zeros(after.shape[1])


def _figures(kind: Literal["orthogonal", "affine"], pairs: int, bridged: Floats, after: Floats) -> BridgeFigures:
    """Each held-back picture asks with its new embedding; itself is left out of the ten."""
    anew, across = after @ after.T, after @ bridged.T
    own_first = across.argmax(1) == np.arange(len(after))
    np.fill_diagonal(anew, -np.inf)
    np.fill_diagonal(across, -np.inf)
    count = max(1, min(FIRST, len(after) // 10))  # of few pictures, ten would be shared by chance
    nearest = [np.argsort(-scores, axis=1, kind="stable")[:, :count] for scores in (anew, across)]
    shared = [len(set(one) & set(other)) / count for one, other in zip(*nearest, strict=True)]
    return BridgeFigures(
        kind=kind,
        pairs=pairs,
        held_back=len(after),
        shared=mean_interval(np.asarray(shared)),
        own_first=mean_interval(own_first.astype(np.float64)),
        cosine=float((bridged * after).sum(1).mean()),
    )
