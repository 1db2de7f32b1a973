"""Queries of an index: texts and pictures, embedded by a bundle of its space and searched exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.tokenizer import unknown_share
from mobileclip_deploy.network.model.variants import TowerName, load_variant
from mobileclip_deploy.pictures.embedder import bundle_embedder
from mobileclip_deploy.pictures.embedding import embed_texts
from mobileclip_deploy.pictures.pictures import Reading, embed_dataset_images
from mobileclip_deploy.search.index import Index, Match
from mobileclip_deploy.search.storage import BITS
from mobileclip_deploy.spaces.relevance import Relevance


@dataclass(frozen=True)
class Answer:
    """Matches of one query, the nearest first.

    Attributes:
        kind: kind of the query, text or image.
        found: False if no picture is near enough: then `matches` is empty.
        needed: threshold of the cosine of the best match; None if there is no threshold, and everything is shown.
        best: the largest cosine in the index; None for an empty index.
        unknown: share of the tokens of a text that the vocabulary did not learn (`unknown_share`).
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
    """Answers in the order of the queries.

    Attributes:
        bundle: folder of the bundle that embedded the queries.
        count: number of embeddings in the index.
        bridged_from: space that a version up to 0.4 approximated the index from; its matches only approximate those of
            newly embedded pictures. None for other indices.
    """

    index: Path
    bundle: Path
    embedding_space: str
    count: int
    bridged_from: str | None
    answers: tuple[Answer, ...]


def search_index(
    index: Index, bundle: Bundle, texts: Sequence[str], images: Sequence[Path], top: int, threshold: float | None
) -> SearchResult:
    """Searches an index for the `top` matches of each text and image file.

    Without `threshold`, text queries use the threshold of the bundle's `Relevance`, if it has one, for a library of
    this size. There is no threshold for image queries, and for indices of sign bits only, whose scores are not cosines.

    Raises:
        UsageError: there is no query, a text is empty, or the bundle lacks the tower.
        InvalidInput: the bundle is of another embedding space, or an image cannot be used.
        NotRun, RuntimeFailed: no runtime on this machine can run the bundle.
    """
    space = bundle.manifest.embedding_space
    if space != index.description.embedding_space:
        raise InvalidInput(
            f"{index.path} has the embedding space {index.description.embedding_space}, but {bundle.path} has {space}: "
            "they cannot be compared; name a bundle of that space"
        )
    if not texts and not images:
        raise UsageError("no query: add a text, or `images=FILE`")
    if not all(text.strip() for text in texts):
        raise UsageError("the query is empty")
    if threshold is not None and not -1 <= threshold <= 1:
        raise UsageError(f"`threshold` {threshold:g} is not a cosine: give a number from -1 to 1")
    answers: list[Answer] = []
    kinds: dict[TowerName, list[str]] = {"text": list(texts), "image": [str(image) for image in images]}
    for kind, queries in kinds.items():
        if queries:
            vectors = _embedded(bundle, kind, queries)
            matches = index.search(vectors, top)
            needed = _needed(index, bundle, kind, vectors, threshold)
            replies = [_answer(*reply, kind) for reply in zip(queries, matches, needed, strict=True)]
            if kind == "text":
                tokens = bundle.manifest.tokens
                replies = [replace(reply, unknown=unknown_share(reply.query, tokens)) for reply in replies]
            answers += replies
    return SearchResult(index.path, bundle.path, space, len(index), index.description.bridged_from, tuple(answers))


def reads_only_english(bundle: Path) -> bool:
    """Returns whether a bundle's text tower was trained on English alone, by its card and its manifest."""
    manifest = Bundle.open_unchecked(bundle).manifest
    return manifest.checkpoint.distilled is None and load_variant(manifest.variant).languages == "English"


def foreign_letters(query: str) -> bool:
    """Returns whether a text has letters that English does not use: 8 of nano's 1,911 English captions (piñata and
    names), 19% of the German and 33% of the French ones."""
    return any(letter.isalpha() and not letter.isascii() for letter in query)


def _needed(
    index: Index, bundle: Bundle, kind: TowerName, vectors: Floats, threshold: float | None
) -> Sequence[float | None]:
    """Returns the threshold of each query [Q, D]; None for queries without one."""
    if threshold is not None:
        return [threshold] * len(vectors)
    if kind == "image" or index.description.tower == "text" or index.store.name == BITS[1]:
        return [None] * len(vectors)
    relevance = Relevance.of(bundle)
    return [None] * len(vectors) if relevance is None else relevance.needed(vectors, len(index)).tolist()


def _answer(query: str, matches: Sequence[Match], needed: float | None, kind: TowerName) -> Answer:
    best = matches[0].score if matches else None
    is_near = best is not None and (needed is None or best >= needed)
    return Answer(query, kind, tuple(matches) if is_near else (), is_near, needed, best)


def _embedded(bundle: Bundle, tower: TowerName, queries: list[str]) -> Floats:
    """Returns the embeddings [Q, D] of texts, or of the images at paths."""
    embedder = bundle_embedder(bundle, (tower,))
    if tower == "text":
        return embed_texts(embedder, queries)
    return embed_dataset_images(embedder, [Path(query) for query in queries], queries, Reading(remedy=""))[0]


def nothing_found(answer: Answer) -> str:
    """Returns the message for a query without matches."""
    if answer.best is None or answer.needed is None:
        return f"{answer.query}: nothing found; the index is empty"
    return (
        f"{answer.query}: nothing found; the nearest of the library has a cosine of {answer.best:.3f}, and this query "
        f"needs {answer.needed:.3f}"
    )
