"""`embed`, `search` and `bridge`: embeddings of a bundle, stored, searched, and reduced."""

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.arguments import Count, StoreName
from mobileclip_deploy.base.files import StrPath, check_file_destination, optional_path, paths
from mobileclip_deploy.base.files.names import INDEX_SUFFIX
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.pictures.pictures import Reading
from mobileclip_deploy.pictures.subjects import opened
from mobileclip_deploy.search.bridging import BridgeResult, reduced_index
from mobileclip_deploy.search.embedding_files import EmbeddingFile, embed_to_file, refuse_classifier
from mobileclip_deploy.search.engines import export_index
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.library import IndexFile, Keeping, embed_to_index
from mobileclip_deploy.search.page import write_page
from mobileclip_deploy.search.requested import check_embedding_output, description_beside, tower_of_sources
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
    """Writes the embeddings of images, or of the texts in a file, with a few in memory at a time.

    An interrupted call continues where it stopped when it is made again. The file's bytes do not depend on the number
    of workers.

    Args:
        bundle: as returned by `export`, or its folder; or a model from `load_model`.
        sources: one or several files, folders (searched recursively) and patterns such as "photos/*.jpg"; or one file
            of texts, a .txt with one per line or a .jsonl of strings or objects with a `text`.
        output: .safetensors, .jsonl or .npy (docs/evaluation.md), or an index, .mcdx, with embeddings of length 1
            (docs/search.md). A .npy gets a .json with names, embedding space, variant and dtype.
        normalise: scale each embedding to length 1; otherwise embeddings are as the artifact gives them.
        skip_bad: leave out images that cannot be used (`EmbeddingFile.skipped`) instead of refusing the first.
        workers: number of threads that read, decode and (ONNX) compute; the number of usable cores when None.
        fast_jpeg: decode large JPEGs at a half, a quarter or an eighth of their size, at least twice the tower's input
            size. This is faster, and changes the embeddings a little (docs/evaluation.md).
        store: storage of embeddings in an index: "int8" when None; "bits" also contains int8, for re-ranking.
        incremental: with an existing index, embed new and changed items, and keep the rest.
        prune: with `incremental`, remove pictures whose files are gone.
        force: replace an existing output.

    Raises:
        UsageError: the output cannot be used or has a writer already, the bundle lacks the tower, or its outputs are
            label probabilities or tokens.
        InvalidInput: a source cannot be read or is empty, or none of the images can be used.
        RuntimeFailed: no runtime on this machine can run the bundle.
    """
    path = Path(output)
    indexed = path.suffix == INDEX_SUFFIX
    check_embedding_output(path, store, incremental, prune, force)
    with sole_writer(path, "embed", force=force, update=incremental, beside=description_beside(path)):
        subject = opened(bundle)
        if indexed and not isinstance(subject, Bundle):
            raise UsageError("an index needs a bundle, whose text tower embeds the queries; export one")
        files = paths(sources)
        if tower_of_sources(files) == "image":
            refuse_classifier(subject)
        how = Reading(skip_bad, workers=workers, fast_jpeg=fast_jpeg)
        if indexed:
            assert isinstance(subject, Bundle)
            return embed_to_index(subject, files, path, Keeping(store or "int8", incremental, prune), how, progress)
        return embed_to_file(subject, files, path, normalise=normalise, how=how, progress=progress)


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
    """Returns the pictures of an index that are nearest to texts or to other pictures, by exact search.

    Args:
        index: as `embed` writes it (.mcdx).
        texts: one query or several.
        images: one image file or several, as queries.
        bundle: bundle that embeds the queries, of the index's embedding space; when None the bundle that wrote this
            index, or else one of that space, on this machine.
        top: number of matches for each query; fewer if the index contains fewer.
        threshold: minimum cosine of the best match; below it nothing is found, and -1 shows everything. When None, text
            queries use the threshold that the bundle learned from its background pictures (`export`). A bundle without
            background pictures shows everything.
        html: file for a page of the answers with small pictures.
        force: replace an existing page.

    Raises:
        InvalidInput: the index is missing or damaged, an image cannot be used, or the bundle is of another embedding
            space.
        UsageError: there is no query, or no known bundle.
        RuntimeFailed: no runtime on this machine can run the bundle.
    """
    page = optional_path(html)
    if page is not None:
        check_file_destination(page, force, "html")
    opened = index if isinstance(index, Index) else Index(index)
    chosen = bundle_of_space(opened.description.embedding_space, opened.path) if bundle is None else Bundle.of(bundle)
    listed = [texts] if isinstance(texts, str) else texts
    result = search_index(opened, chosen, listed, paths(images), top, threshold)
    if page is not None:
        with sole_writer(page, "search", force=force):
            write_page(result, opened.description.tower, page)
    return result


def bridge(source: Index | StrPath, *, by: Bundle | StrPath, output: StrPath, force: bool = False) -> BridgeResult:
    """Reduces an index of full embeddings to the smaller embeddings of a bundle, without the pictures.

    Args:
        source: an index of the full embeddings.
        by: bundle of the smaller ones (`export` with `embedding_size`). Its axes convert the index.
        output: index to write (.mcdx).
        force: replace an existing output.

    Raises:
        UsageError: the output cannot be written, or `by` is neither a bundle nor its folder.
        InvalidInput: the bundle has full embeddings, or the index is damaged, of another embedding space, or of sign
            bits only.
    """
    path = Path(output)
    if path.suffix != INDEX_SUFFIX:
        raise UsageError(f"{path}: give a name that ends with {INDEX_SUFFIX}")
    check_file_destination(path, force)
    with sole_writer(path, "bridge", force=force):
        old = source if isinstance(source, Index) else Index(source)
        bundle = Bundle.of(by)
        result = reduced_index(old, bundle, path)
        remember(bundle.manifest.embedding_space, bundle.path, path)
        return result
