"""`embed`, `search` and `bridge`: what a bundle answers, stored, found again, and brought to another model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.arguments import Count, StoreName
from mobileclip_deploy.base.files import StrPath, check_file_destination, optional_path, paths
from mobileclip_deploy.base.files.names import INDEX_SUFFIX
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.pictures.pictures import Reading
from mobileclip_deploy.search.bridging import Bridge, BridgeResult, cross, learn
from mobileclip_deploy.search.embedding_files import EmbeddingFile, embed_to_file, refuse_other_answers
from mobileclip_deploy.search.engines import export_index
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.library import IndexFile, Keeping, embed_to_index
from mobileclip_deploy.search.page import write_page
from mobileclip_deploy.search.requested import asked_tower, check_embedding_output, description_beside
from mobileclip_deploy.search.searching import SearchResult, search_index
from mobileclip_deploy.search.spaces import bundle_of_space, remember

__all__ = ["BridgeResult", "EmbeddingFile", "IndexFile", "SearchResult", "bridge", "embed", "export_index", "search"]


def embed(
    bundle: Bundle | MobileCLIP | StrPath,
    sources: StrPath | Sequence[StrPath],
    output: StrPath,
    *,
    normalise: bool = False,
    skip_bad: bool = True,
    workers: Count | None = None,
    fast_jpeg: bool = False,
    store: StoreName | None = None,
    incremental: bool = False,
    prune: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> EmbeddingFile | IndexFile:
    """Write a bundle's embeddings of images, or of the texts in a file, a few in memory at a time.

    An interrupted call goes on where it was when it is made again. The file's bytes are the same whatever the number of
    workers.

    Args:
        bundle: as returned by `export`, or its folder; or a model from `load_model`.
        sources: files, folders (searched to the bottom) and patterns such as "photos/*.jpg"; or one file of texts, a
            .txt with one per line or a .jsonl of strings or objects with a `text`; one of them or several.
        output: .safetensors, .jsonl, or .npy, beside which a .json holds names, embedding space, variant and dtype
            (docs/evaluation.md); or .mcdx, an index (docs/search.md), whose embeddings are of length 1.
        normalise: scale each embedding to length 1; they are as the artifact gives them otherwise.
        skip_bad: leave out images that cannot be used (`EmbeddingFile.skipped`) instead of refusing the first.
        workers: threads that read, decode and (ONNX) compute; as many as this process may use cores when None.
        fast_jpeg: decode large JPEGs at a half, a quarter or an eighth of their size, at least twice what the tower
            takes: faster, and the embeddings move a little (docs/evaluation.md).
        store: how an index stores them: "int8" when None; "bits" also holds int8, by which the best are scored again.
        incremental: of an index that is there, embed what is new or has changed, and keep the rest.
        prune: with `incremental`, remove pictures whose files are gone.
        force: replace an output that is there.

    Raises:
        UsageError: the output cannot be used or has a writer already, the bundle lacks the tower, or it answers with
            probabilities of labels or with tokens.
        InvalidInput: a source cannot be read, or holds nothing, or none of the images can be used.
        RuntimeFailed: nothing here can run the bundle.
    """
    path = Path(output)
    indexed = path.suffix == INDEX_SUFFIX
    check_embedding_output(path, store, incremental, prune, force)
    with sole_writer(path, "embed", force=force, update=incremental, beside=description_beside(path)):
        if indexed and isinstance(bundle, MobileCLIP):
            raise UsageError("an index is written by a bundle, whose text tower will be asked for queries; export one")
        subject = Source.of(bundle).model if isinstance(bundle, MobileCLIP) else Bundle.of(bundle)
        given = paths(sources)
        if asked_tower(given) == "image":
            refuse_other_answers(subject)
        how = Reading(skip_bad, workers=workers, fast_jpeg=fast_jpeg)
        if indexed:
            assert isinstance(subject, Bundle)
            return embed_to_index(subject, given, path, Keeping(store or "int8", incremental, prune), how, progress)
        return embed_to_file(subject, given, path, normalise=normalise, how=how, progress=progress)


def search(
    index: Index | StrPath,
    texts: str | Sequence[str] = (),
    *,
    images: StrPath | Sequence[StrPath] = (),
    bundle: Bundle | StrPath | None = None,
    top: Count = 20,
    threshold: float | None = None,
    html: StrPath | None = None,
    force: bool = False,
) -> SearchResult:
    """The pictures of an index that are nearest to texts, or to other pictures: every one is compared.

    Args:
        index: as `embed` writes it (.mcdx).
        texts: queries, or one.
        images: image files as queries, or one.
        bundle: that embeds the queries, of the index's embedding space; when None the one that last wrote an index of
            that space on this machine.
        top: matches for each query; fewer where the index holds fewer.
        threshold: the cosine that the nearest picture needs, or nothing is found; -1 shows everything. When None it is
            what the bundle learned from its background pictures (`export`), of texts; a bundle without them shows all.
        html: a file to write the answers to, as a page with small pictures.
        force: replace a page that is there.

    Raises:
        InvalidInput: no index, a damaged one, an image that cannot be used, or a bundle of another embedding space.
        UsageError: nothing is asked, or no bundle is known.
        RuntimeFailed: nothing here can run the bundle.
    """
    page = optional_path(html)
    if page is not None:
        check_file_destination(page, force, "html")
    opened = index if isinstance(index, Index) else Index(index)
    chosen = bundle_of_space(opened.description.embedding_space) if bundle is None else Bundle.of(bundle)
    listed = [texts] if isinstance(texts, str) else texts
    result = search_index(opened, chosen, listed, paths(images), top, threshold)
    if page is not None:
        with sole_writer(page, "search", force=force):
            write_page(result, opened.description.tower, page)
    return result


def bridge(
    source: Index | StrPath,
    *,
    to: Index | StrPath | None = None,
    by: StrPath | None = None,
    output: StrPath,
    force: bool = False,
) -> BridgeResult:
    """Learn a map from one embedding space to another, or bring an index across by one that was learned.

    Args:
        source: an index of the old space.
        to: an index of the new space, with some of the same pictures under the same ids: the map is learned from
            these, and written to `output`, a .safetensors.
        by: a map that was written so: the index is brought across by it, and written to `output`, an .mcdx. Or a bundle
            of smaller embeddings, whose axes bring an index of the full ones across.
        force: replace an output that is there.

    Raises:
        UsageError: neither or both of `to` and `by`, or the output cannot be written.
        InvalidInput: a file cannot be used; the spaces are the same, or not those of the map; too few shared pictures.
        GateFailed: what would be found changes too much; nothing is written.
    """
    if (to is None) == (by is None):
        raise UsageError("give `to`, an index to learn from, or `by`, a map that was learned")
    path, suffix = Path(output), INDEX_SUFFIX if to is None else ".safetensors"
    if path.suffix != suffix:
        raise UsageError(f"{path}: give a name that ends with {suffix}")
    check_file_destination(path, force)
    with sole_writer(path, "bridge", force=force):
        old = source if isinstance(source, Index) else Index(source)
        if to is not None:
            learned = learn(old, to if isinstance(to, Index) else Index(to))
            learned.save(path)
            return BridgeResult(path, learned.description, None)
        assert by is not None
        if not Path(by).is_dir():
            learned = Bridge.read(Path(by))
            return BridgeResult(path, learned.description, len(cross(old, learned, path)))
        bundle = Bundle.of(by)
        learned = Bridge.of_axes(bundle, old)
        count = len(cross(old, learned, path))
        remember(bundle.manifest.embedding_space, bundle.path)
        return BridgeResult(path, learned.description, count)
