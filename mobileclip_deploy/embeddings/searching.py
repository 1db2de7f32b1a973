"""Texts and pictures asked of an index: embedded by a bundle of its space, and answered exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.embeddings.index import Index, Match
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.embedder import bundle_embedder
from mobileclip_deploy.evaluation.embedding import embed_texts
from mobileclip_deploy.evaluation.pictures import embed_dataset_images
from mobileclip_deploy.model.variants import TowerName

__all__ = ["Answer", "SearchResult", "search_index"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What one query found, the nearest first. `kind`: what the query is."""

    query: str
    kind: TowerName
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class SearchResult:
    """Answers in the order of the queries. `count`: embeddings in the index; `bundle`: what embedded the queries;
    `bridged_from`: the space that the index was brought from by a bridge, whose matches are nearly those of pictures
    that were embedded anew."""

    index: Path
    bundle: Path
    embedding_space: str
    count: int
    bridged_from: str | None
    answers: tuple[Answer, ...]


def search_index(index: Index, bundle: Bundle, texts: Sequence[str], images: Sequence[Path], top: int) -> SearchResult:
    """Ask an index.

    Raises:
        UsageError: nothing is asked, or the bundle lacks the tower.
        InvalidInput: the bundle is of another embedding space, or an image cannot be used.
        NotRun, RuntimeFailed: nothing here can run the bundle.
    """
    space = bundle.manifest.embedding_space
    if space != index.description.embedding_space:
        raise InvalidInput(
            f"{index.path} is of the embedding space {index.description.embedding_space}, and {bundle.path} gives "
            f"{space}: they cannot be compared; name a bundle of that space"
        )
    if not texts and not images:
        raise UsageError("nothing is asked; give a text or an image")
    answers: list[Answer] = []
    asked: dict[TowerName, list[str]] = {"text": list(texts), "image": [str(image) for image in images]}
    for kind, queries in asked.items():
        if queries:
            found = index.search(_embedded(bundle, kind, queries), top)
            answers += [Answer(query, kind, tuple(rows)) for query, rows in zip(queries, found, strict=True)]
    return SearchResult(index.path, bundle.path, space, len(index), index.description.bridged_from, tuple(answers))


def _embedded(bundle: Bundle, tower: TowerName, queries: list[str]) -> Floats:
    """Embeddings [Q, D] of texts, or of the images at paths."""
    embedder = bundle_embedder(bundle, (tower,))
    if tower == "text":
        return embed_texts(embedder, queries)
    return embed_dataset_images(embedder, [Path(query) for query in queries], queries)[0]
