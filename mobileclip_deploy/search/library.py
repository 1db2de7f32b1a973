"""Libraries of pictures (or texts) embedded into an index, which is created or updated."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.errors import REASON, InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.cache import partial_cache
from mobileclip_deploy.pictures.embedder import Embedder, bundle_embedder
from mobileclip_deploy.pictures.embedding import embed_texts, unit
from mobileclip_deploy.pictures.image_listing import ImageListing
from mobileclip_deploy.pictures.pictures import Reading, Tally, image_embeddings
from mobileclip_deploy.pictures.text_files import read_texts
from mobileclip_deploy.search.embedding_files import asked_images
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.requested import tower_of_sources
from mobileclip_deploy.search.spaces import remember
from mobileclip_deploy.search.storage import Store
from mobileclip_deploy.search.writing import IndexRows, IndexWriter, compact, create
from mobileclip_deploy.spaces.int8 import scale_of

LARGEST_GONE = 0.25
MOST_BLOCKS = 64
"""Limits of an index: it is compacted if a larger share is removed, or it has more blocks. A query takes one matrix
product per block."""
UNSTAMPED = 0
"""Stamp of rows that were written without one, for example by an app. These rows are not embedded again."""


@dataclass(frozen=True)
class Keeping:
    """Options for writing an index, or for updating an existing one.

    Attributes:
        store: storage format of the vectors of a new index.
        incremental: add new items, replace changed ones.
        prune: remove pictures whose files are gone.
    """

    store: str = "int8"
    incremental: bool = False
    prune: bool = False


@dataclass(frozen=True)
class IndexFile:
    """Summary of an index that was written.

    Attributes:
        count: number of embeddings that the index contains now, each of `dimension` elements, stored as `store`.
        bytes: size of the file.
        added, replaced, removed: numbers of rows that this call changed.
        missing: number of pictures that stay in the index although their files are gone.
        clipped: share of the int8 components of added rows that were beyond the scale, 0 to 1.
        skipped: images that were left out, with the reason.
        computed: number of embeddings that this call computed in `seconds`, reading included. `per_second` is their
            quotient; all three are as in `EmbeddingFile`.
    """

    path: Path
    tower: TowerName
    variant: str
    embedding_space: str
    store: str
    dimension: int
    count: int
    bytes: int
    added: int
    replaced: int
    removed: int
    missing: int
    clipped: float
    skipped: tuple[str, ...]
    fast_jpeg: bool = False
    computed: int = 0
    seconds: float = 0.0
    per_second: float | None = None


def int8_scale(bundle: Bundle) -> float:
    """Returns the scale of a bundle's embedding space: an int8 integer times the scale is a component of a unit vector.

    The manifest records it: smaller embeddings derive it from the data they were fitted to, others from the golden
    pictures. For bundles of earlier versions it is computed from the golden file.

    Raises:
        InvalidInput: the golden file cannot be read, or contains no pictures.
    """
    if (recorded := bundle.manifest.int8_scale) is not None:
        return recorded
    tensors, _ = read_tensors(bundle.golden, f"{bundle.golden} cannot be read ({REASON}); export the bundle again")
    embeddings = tensors.get("image_embeddings")
    scale = None if embeddings is None else scale_of(np.asarray(embeddings, np.float32))
    if scale is None:
        raise InvalidInput(f"{bundle.golden} has no embeddings; export the bundle again")
    return scale


def embed_to_index(
    bundle: Bundle,
    sources: Sequence[Path],
    output: Path,
    keeping: Keeping,
    how: Reading,
    progress: Callable[[str], None],
) -> IndexFile:
    """Implements `embed` for an index.

    Embeddings are cached in a folder `.NAME.partial` next to the index until the index is complete. The same command
    continues after an interruption or a kill. Until completion the index stays as it was.

    Raises:
        UsageError: the sources mix texts and images, another process writes the index, or the index contains the other
            kind, or pictures with another `fast_jpeg`.
        InvalidInput: the existing index is damaged, or of another embedding space.
    """
    tower = tower_of_sources(sources)
    embedder = bundle_embedder(bundle, (tower,))
    with ExitStack() as stack:
        partial = stack.enter_context(partial_cache(output))
        listing: ImageListing | tuple[str, ...]
        if tower == "text":
            listing = tuple(dict.fromkeys(read_texts(sources[0])))
        else:
            listing = stack.enter_context(asked_images(sources))
        source = _Source(listing, embedder, replace(how, cache=partial), progress)
        if keeping.incremental and output.exists():
            changes, clipped = _extend(output, source, tower, keeping.prune)
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            description = Description(
                embedding_space=embedder.embedding_space,
                variant=embedder.variant,
                tower=tower,
                artifact=embedder.artifact(tower),
                fast_jpeg=source.how.fast_jpeg and tower == "image",
            )
            scale = int8_scale(bundle) if keeping.store in ("int8", "bits") else 0.0
            header = Header(Store(keeping.store, bundle.manifest.embed_dim, scale), description)
            with closing(source.rows({})) as rows:
                clipped = create(output, header, rows)
            changes = _Changes()
    if _is_loose(output):
        try:
            compact(output)
        except PermissionError as error:  # Windows replaces no file that another process has open
            progress(
                f"{output} still contains the bytes of removed rows ({error.strerror}); the next `incremental` run "
                "drops them"
            )
    index = Index(output, check=False)  # its blocks were compared when it was opened to be written
    remember(embedder.embedding_space, bundle.path, output)
    tally = source.tally
    return IndexFile(
        path=output,
        tower=tower,
        variant=embedder.variant,
        embedding_space=embedder.embedding_space,
        store=index.store.name,
        dimension=index.store.dimension,
        count=len(index),
        bytes=output.stat().st_size,
        added=source.count - changes.replaced,
        replaced=changes.replaced,
        removed=changes.removed,
        missing=changes.missing,
        clipped=clipped / max(1, source.count * index.store.dimension),
        skipped=tally.skipped,
        fast_jpeg=index.description.fast_jpeg,
        computed=tally.computed,
        seconds=tally.seconds,
        per_second=tally.per_second,
    )


@dataclass
class _Changes:
    replaced: int = 0
    removed: int = 0
    missing: int = 0


@dataclass
class _Source:
    """Rows of image files or texts that the index does not contain yet, a few at a time."""

    listing: ImageListing | tuple[str, ...]
    embedder: Embedder
    how: Reading
    progress: Callable[[str], None]
    tally: Tally = field(default_factory=Tally)
    count: int = 0

    def rows(self, known: dict[str, tuple[int, int]]) -> Generator[IndexRows]:
        """Yields rows of items that are new or whose file changed.

        Args:
            known: row and stamp by id.
        """
        chosen, count = self._stamped(), len(self.listing)
        if known:  # names are in memory anyway, so a list of the new ones fits too
            new = [(name, stamp) for name, stamp in chosen if known.get(name, (0, None))[1] not in (stamp, UNSTAMPED)]
            chosen, count = iter(new), len(new)
        if count:
            yield from self._texts(chosen) if isinstance(self.listing, tuple) else self._images(chosen, count)

    def _stamped(self) -> Iterator[tuple[str, int]]:
        """Yields the id of each item to embed, with a stamp that changes with its file."""
        return ((str(item), _stamp(item) if isinstance(item, Path) else 0) for item in self.listing)

    def _texts(self, chosen: Iterable[tuple[str, int]]) -> Iterator[IndexRows]:
        names = [name for name, _ in chosen]
        vectors = unit(embed_texts(self.embedder, names, cache=self.how.cache, progress=self.progress))
        self.count += len(names)
        yield names, [0] * len(names), vectors

    def _images(self, chosen: Iterable[tuple[str, int]], count: int) -> Iterator[IndexRows]:
        # Each stamp is read once, before its file; the second iterator follows a few items later.
        to_read, to_match = tee(chosen)
        images = ((Path(name), name) for name, _ in to_read)
        numbered = enumerate(to_match)
        with closing(image_embeddings(self.embedder, images, count, self.how, self.tally, self.progress)) as parts:
            for part in parts:
                ids: list[str] = []
                stamps: list[int] = []
                while len(ids) < len(part):  # up to the last of a part, it is decided which are usable
                    number, (name, stamp) = next(numbered)
                    if number not in self.tally.bad:
                        ids.append(name)
                        stamps.append(stamp)
                self.count += len(ids)
                yield ids, stamps, unit(part)


def _is_loose(path: Path) -> bool:
    """Returns whether the index has many removed rows, or many blocks."""
    index = Index(path, check=False)
    return index.rows - len(index) > LARGEST_GONE * index.rows or len(index.blocks) > MOST_BLOCKS


def _extend(path: Path, source: _Source, tower: TowerName, prune: bool) -> tuple[_Changes, int]:
    """Updates an index; returns the changes, and the number of components that the int8 scale clipped. Afterwards the
    file is no longer mapped: Windows could not replace a mapped file."""
    with IndexWriter.open(path) as (writer, index):
        _check_same(index, source.embedder, tower, source.how.fast_jpeg)
        return _update(writer, index, source, prune), writer.clipped


def _update(writer: IndexWriter, index: Index, source: _Source, prune: bool) -> _Changes:
    """Adds new rows, marks replaced and pruned ones as removed, and commits all at once."""
    known = {name: (row, stamp) for row, name, stamp in index}
    images = not isinstance(source.listing, tuple)
    lost = [row for name, (row, _) in known.items() if images and not Path(name).exists()]
    if prune:
        _check_prune(index.path, known, len(lost), len(known))
    changes = _Changes()
    gone = []
    with closing(source.rows(known)) as rows:  # an error is raised once, and not at garbage collection
        for ids, stamps, vectors in rows:
            writer.add(ids, stamps, vectors)
            gone += [known[name][0] for name in ids if name in known]
    changes.replaced = len(gone)
    changes.removed, changes.missing = (len(lost), 0) if prune else (0, len(lost))
    gone += lost if prune else []
    writer.remove(gone)
    if source.count or gone:
        writer.commit()
    return changes


def _check_prune(path: Path, names: Iterable[str], lost: int, count: int) -> None:
    """Refuses to remove every picture: relative paths of an index do not exist from another folder.

    Raises:
        UsageError: every file is gone.
    """
    if not count or lost < count:
        return
    relative = next((name for name in names if not Path(name).is_absolute()), None)
    where = f" ({relative} is not below {Path.cwd()})" if relative else ""
    raise UsageError(
        f"`prune` would remove all {count:,} pictures of {path}, whose files are missing{where}; run it in the folder "
        "where the index was written, or write a new index"
    )


def _check_same(index: Index, embedder: Embedder, tower: TowerName, fast_jpeg: bool) -> None:
    stored = index.description
    if stored.embedding_space != embedder.embedding_space:
        raise InvalidInput(
            f"{index.path} has the embedding space {stored.embedding_space}, but {embedder.name} has "
            f"{embedder.embedding_space}: they cannot be compared; write another index"
        )
    if stored.bridged_from is not None:
        raise UsageError(
            f"{index.path} was converted from {stored.bridged_from} by a bridge; new embeddings cannot be mixed with "
            "bridged ones; write another index"
        )
    if stored.tower != tower:
        raise UsageError(f"{index.path} has embeddings of {stored.tower}s, not of {tower}s; write another index")
    if tower == "image" and stored.fast_jpeg != fast_jpeg:
        word = "with" if stored.fast_jpeg else "without"
        raise UsageError(f"{index.path} was written {word} `fast_jpeg`; add to it in the same way")


def _stamp(file: Path) -> int:
    """Returns a hash of the size and modification time of a file; 0 if they cannot be read. Reading the file then gives
    the error."""
    try:
        status: Any = file.stat()
    except OSError:
        return 0
    digest = hashlib.blake2b(f"{status.st_size} {status.st_mtime_ns}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
