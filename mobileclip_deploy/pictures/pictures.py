"""Embedding of many pictures: read, decoded and, if the runtime allows it, computed on all cores, a few at a time.

The result does not depend on the number of threads or on their speed. Pictures are read in order, and the size of a
batch follows from their order alone.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.base.files.arrays import Bytes, Floats
from mobileclip_deploy.base.progress import Progress, rate, silent
from mobileclip_deploy.base.scheduling import available_cores
from mobileclip_deploy.errors import InvalidInput, reraising
from mobileclip_deploy.network.model.preprocessing import Pixels, decoded, tower_bytes
from mobileclip_deploy.pictures.cache import EmbeddingStore, in_order
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.embedding import BATCH, open_store
from mobileclip_deploy.pictures.image_sources import Content, ImageSource, read_image

TOGETHER = 4
"""Pictures that a thread reads at once: int8 towers are fastest at few, float ones as fast as at many."""

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Reading:
    """Options for reading pictures.

    Attributes:
        skip_bad: leave out pictures that cannot be used instead of refusing the first.
        cache: a folder of embeddings to read from and add to.
        workers: number of threads; all cores if None.
        fast_jpeg: decode large JPEGs at a part of their size; see `decoded`.
        pixels: see `Pixels`.
        remedy: end of the error text for a picture that cannot be used.
        learned: first 16 digits of the SHA-256 of pictures that cannot be used because labels were learned from them.
    """

    skip_bad: bool = False
    cache: Path | None = None
    workers: int | None = None
    fast_jpeg: bool = False
    pixels: Pixels = "app"
    remedy: str = "; correct it, or leave such images out with `skip_bad=True`"
    learned: frozenset[str] = frozenset()


PLAINLY = Reading()


@dataclass
class Tally:
    """Outcome for a set of pictures.

    Attributes:
        bad: fault of each picture that cannot be used, by position.
        computed: number of computed embeddings; the others were cached.
        seconds: time for the computed ones; 0 if the embedder's speed means nothing.
    """

    bad: dict[int, str] = field(default_factory=dict)
    computed: int = 0
    seconds: float = 0.0

    @property
    def skipped(self) -> tuple[str, ...]:
        """Faults of the pictures that cannot be used, in order."""
        return tuple(self.bad[number] for number in sorted(self.bad))

    @property
    def per_second(self) -> float | None:
        """Pictures computed per second. None if there were none."""
        return self.computed / self.seconds if self.computed and self.seconds else None


def embed_dataset_images(
    embedder: Embedder,
    images: Sequence[ImageSource],
    rows: Sequence[str],
    how: Reading = PLAINLY,
    progress: Progress = silent,
) -> tuple[Floats, Tally]:
    """Embeds image files as the artifact does, not normalised, all in memory at once.

    Args:
        rows: location of each image, for errors.

    Returns:
        float32 [N, D] of the usable images in order, and the outcome for all.

    Raises:
        InvalidInput: an image cannot be used, or none can.
    """
    tally = Tally()
    located = zip(images, rows, strict=True)
    with closing(image_embeddings(embedder, located, len(images), how, tally, progress)) as parts:
        return np.concatenate(list(parts)), tally


def image_embeddings(
    embedder: Embedder,
    images: Iterable[tuple[ImageSource, str]],
    count: int,
    how: Reading,
    tally: Tally,
    progress: Progress = silent,
) -> Generator[Floats]:
    """Yields embeddings as `embed_dataset_images`, a few rows [k, D] at a time; `tally` is filled meanwhile.

    The generator must be closed, so that its threads end and the computed embeddings are stored.

    Args:
        images: each with its location, for errors; iterated once, a few images ahead of the output.
        count: number of images.

    Raises:
        InvalidInput: an image cannot be used, or none can.
    """
    store = open_store(embedder, "image", how.cache, how.fast_jpeg, how.pixels)
    workers = how.workers or available_cores()
    thread_safe_images = None if embedder.thread_safe_images is None else embedder.thread_safe_images()
    reader = _ImageReader(embedder, how, store, thread_safe_images)
    numbered = ((number, *image) for number, image in enumerate(images))
    parts = iter(lambda: tuple(islice(numbered, TOGETHER)), ())
    began = time.monotonic()
    describe_progress = _told(count, tally, began)
    progress(f"image 0 of {count}")
    done = 0
    threads = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    with ExitStack() as stack:
        # If the block ends early, each thread only finishes its current item.
        stack.callback(threads.shutdown, cancel_futures=True)
        try:
            # Reads a whole batch ahead if batches are computed at once, so that decoding continues meanwhile.
            at_once = 1 if thread_safe_images is not None else max(1, BATCH // TOGETHER)
            ahead = workers + 2 * at_once
            read = _in_order(threads, reader.read, parts, ahead)
            while batch := list(islice(read, at_once)):
                tally.bad |= {number: text for part in batch for number, text in part.bad.items()}
                rows_done, computed = _gathered(batch, store, embedder)
                tally.computed += computed
                tally.seconds = time.monotonic() - began if embedder.has_latency else 0.0
                if (done + len(rows_done)) // BATCH > done // BATCH:
                    progress(describe_progress(batch[-1].last + 1))
                done += len(rows_done)
                if len(rows_done):
                    yield rows_done
        finally:
            if store is not None:  # also after an interrupt
                store.close()
    if count and len(tally.bad) == count:
        raise InvalidInput(f"all {count} images are unusable; the first: {next(iter(tally.bad.values()))}")


def embed_contents(embedder: Embedder, images: Sequence[tuple[str, bytes]], how: Reading = PLAINLY) -> Floats:
    """Returns embeddings [N, D] of image files' contents, not normalised; equal contents are computed once.

    Args:
        images: name of each for error texts, and its bytes.
        how: `skip_bad` and `remedy` have no effect.

    Raises:
        InvalidInput: one cannot be used, or the cache cannot.
    """
    index_of: dict[bytes, int] = {}
    indices = [index_of.setdefault(content, len(index_of)) for _, content in images]
    contents = {content: Content(name, content) for name, content in reversed(images)}
    different = [contents[content] for content in index_of]
    strictly = replace(how, skip_bad=False, remedy="")
    rows = embed_dataset_images(embedder, different, [item.name for item in different], strictly)[0]
    return rows[indices]


@dataclass
class _Part:
    """A few pictures that a thread has read.

    Attributes:
        last: position of the last one.
        names: hashes of the usable pictures, in order.
        new: bytes of the pictures that are not cached, by hash.
        bad: faults of the others, by position.
        answers: embeddings by hash if the thread computed them.
    """

    last: int
    names: list[str] = field(default_factory=list)
    new: dict[str, Bytes] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    answers: dict[str, Floats] | None = None


@dataclass(frozen=True)
class _ImageReader:
    """The work of a thread: reads and decodes, and computes if `thread_safe_images` can be called from many threads."""

    embedder: Embedder
    how: Reading
    store: EmbeddingStore | None
    thread_safe_images: Callable[[Floats], Floats] | None

    def read(self, given: Sequence[tuple[int, ImageSource, str]]) -> _Part:
        """Reads these pictures, each with its position and its location.

        Raises:
            InvalidInput: one cannot be used, and such pictures are not to be left out.
        """
        part = _Part(given[-1][0])
        for number, source, row in given:
            try:
                content = read_image(source)
                name = content_sha256(content)
                if name[:16] in self.how.learned:
                    raise InvalidInput(f"{source}: the bundle's labels were learned from this picture")
                if name not in part.new and (self.store is None or not self.store.had(name)):
                    part.new[name] = self._decoded(content, str(source))
            except InvalidInput as error:
                text = str(error) if row == str(source) else f"{row}: {error}"
                if not self.how.skip_bad:
                    raise InvalidInput(f"{text}{self.how.remedy}") from None
                part.bad[number] = text
                continue
            part.names.append(name)
        if self.thread_safe_images is not None:
            part.answers, part.new = _answers(self.thread_safe_images, part.new), {}
        return part

    def _decoded(self, content: bytes, name: str) -> Bytes:
        spec = self.embedder.preprocess
        least = 2 * spec.resized if self.how.fast_jpeg else None
        with decoded(content, name, least, self.how.pixels) as image, reraising(name, InvalidInput):
            return tower_bytes(self.embedder.view.of(image), spec, self.how.pixels)


def _gathered(batch: Sequence[_Part], store: EmbeddingStore | None, embedder: Embedder) -> tuple[Floats, int]:
    """Returns the embeddings [k, D] of a batch in order, stored, and the number of computed ones.

    The first of equal pictures counts, whichever thread was faster.
    """
    new = {name: pixels for part in batch for name, pixels in part.new.items() if store is None or name not in store}
    answers = _answers(embedder.images, new)
    for part in batch:
        answers = (part.answers or {}) | answers
    return in_order([name for part in batch for name in part.names], answers, store)


def _answers(compute: Callable[[Floats], Floats], new: dict[str, Bytes]) -> dict[str, Floats]:
    if not new:
        return {}
    pixels: Floats = np.stack(list(new.values())).astype(np.float32)  # [N, 3, S, S]
    pixels /= 255  # as `preprocess` does
    return dict(zip(new, compute(pixels), strict=True))


def _in_order(
    threads: ThreadPoolExecutor, work: Callable[[Item], Done], items: Iterable[Item], ahead: int
) -> Iterator[Done]:
    """Yields the results of `work` in the order of the items. Submits at most `ahead` items before their results are
    read."""
    rest = iter(items)
    futures: deque[Future[Done]] = deque(threads.submit(work, item) for item in islice(rest, ahead))
    while futures:
        result = futures.popleft().result()
        futures.extend(threads.submit(work, item) for item in islice(rest, 1))
        yield result


def _told(total: int, tally: Tally, began: float) -> Callable[[int], str]:
    """Returns a function that describes the progress (pictures done, speed, time left) of `total` pictures since
    `began`."""

    def said(done: int) -> str:
        text = f"image {done} of {total}"
        if not tally.computed:
            return text
        minutes, rest = divmod(round((total - done) * (time.monotonic() - began) / done), 60)
        left = f"about {minutes} min {rest} s left" if minutes else f"about {rest} s left"
        speed = "" if tally.per_second is None else f", {rate(tally.per_second)} a second"
        return f"{text}{speed}" + (f", {left}" if minutes or rest else "")

    return said
