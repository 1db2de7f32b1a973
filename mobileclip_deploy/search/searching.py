"""Texts and pictures asked of an index: embedded by a bundle of its space, and answered exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.tokenizer import unknown_share
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.embedder import bundle_embedder
from mobileclip_deploy.pictures.embedding import embed_texts
from mobileclip_deploy.pictures.pictures import Reading, embed_dataset_images
from mobileclip_deploy.search.index import Index, Match
from mobileclip_deploy.search.storage import BITS
from mobileclip_deploy.spaces.relevance import Relevance


@dataclass(frozen=True)
class Answer:
    """What one query found, the nearest first.

    Attributes:
        kind: what the query is.
        found: False where no picture fits: then `matches` is empty.
        needed: the cosine that the nearest needs; None where nothing says one, and everything is shown.
        best: the largest cosine in the index; None of an empty index.
        unknown: of a text, the share of its tokens that the vocabulary did not learn (`unknown_share`).
    """

    query: str
    kind: TowerName
    matches: tuple[Match, ...]
    found: bool = True
    needed: float | None = None
    best: float | None = None
    unknown: float = 0.0


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


def search_index(
    index: Index, bundle: Bundle, texts: Sequence[str], images: Sequence[Path], top: int, threshold: float | None
) -> SearchResult:
    """Ask an index for `top` matches of each text and image file. What a text's nearest picture needs is told by the
    bundle's `Relevance`, where it has one, for a library of this size; of pictures as queries, and of an index of signs
    alone, whose scores are no cosines, nothing is told. `threshold`: that cosine, in place of what is told.

    Raises:
        UsageError: nothing is asked, a text is empty, or the bundle lacks the tower.
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
        raise UsageError("no query; give a text or an image")
    if not all(text.strip() for text in texts):
        raise UsageError("the query is empty; give words")
    if threshold is not None and not -1 <= threshold <= 1:
        raise UsageError(f"`threshold` {threshold:g} is no cosine: give a number from -1 to 1")
    answers: list[Answer] = []
    kinds: dict[TowerName, list[str]] = {"text": list(texts), "image": [str(image) for image in images]}
    for kind, queries in kinds.items():
        if queries:
            vectors = _embedded(bundle, kind, queries)
            found = index.search(vectors, top)
            needed = _needed(index, bundle, kind, vectors, threshold)
            told = [_answer(*one, kind) for one in zip(queries, found, needed, strict=True)]
            if kind == "text":
                tokens = bundle.manifest.tokens
                told = [replace(one, unknown=unknown_share(one.query, tokens)) for one in told]
            answers += told
    return SearchResult(index.path, bundle.path, space, len(index), index.description.bridged_from, tuple(answers))


def _needed(
    index: Index, bundle: Bundle, kind: TowerName, vectors: Floats, threshold: float | None
) -> Sequence[float | None]:
    """The cosine that the nearest of each query [Q, D] needs; None where nothing says one."""
    if threshold is not None:
        return [threshold] * len(vectors)
    if kind == "image" or index.description.tower == "text" or index.store.name == BITS[1]:
        return [None] * len(vectors)
    relevance = Relevance.of(bundle)
    return [None] * len(vectors) if relevance is None else relevance.needed(vectors, len(index)).tolist()


def _answer(query: str, matches: Sequence[Match], needed: float | None, kind: TowerName) -> Answer:
    best = matches[0].score if matches else None
    found = best is not None and (needed is None or best >= needed)
    return Answer(query, kind, tuple(matches) if found else (), found, needed, best)


def _embedded(bundle: Bundle, tower: TowerName, queries: list[str]) -> Floats:
    """Embeddings [Q, D] of texts, or of the images at paths."""
    embedder = bundle_embedder(bundle, (tower,))
    if tower == "text":
        return embed_texts(embedder, queries)
    return embed_dataset_images(embedder, [Path(query) for query in queries], queries, Reading(remedy=""))[0]


def nothing_found(answer: Answer) -> str:
    """What to say of a query that no picture fits."""
    if answer.best is None or answer.needed is None:
        return f"{answer.query}: nothing found; the index is empty"
    return (
        f"{answer.query}: nothing found; the nearest of the library has a cosine of {answer.best:.3f}, and this query "
        f"needs {answer.needed:.3f}"
    )
