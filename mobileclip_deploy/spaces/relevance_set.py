"""Samples to learn relevance from: background pictures, captions with their own pictures, and texts that fit none."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.towers.calibration import spread_evenly
from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.base.files.arrays import Doubles
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset, read_dataset
from mobileclip_deploy.evaluation.minimum_samples import LEAST_BACKGROUND, check_background
from mobileclip_deploy.network.embedding import embed_exactly, exact_texts
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.preprocessing import decode_image, preprocess
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.pictures.image_sources import ImageSource, read_image
from mobileclip_deploy.spaces.axes import unit_if_distinct
from mobileclip_deploy.spaces.relevance_fit import RelevanceSamples

MOST_BACKGROUND = 1024
LEAST_QUERIES, MOST_QUERIES = 256, 2048
NONSENSE = 500
AT_ONCE = 128
"""Pictures in memory at once: 100 MB at 256 pixels."""


@dataclass(frozen=True, eq=False)
class RelevanceSet:
    """Files to learn relevance from: checked, but not embedded yet.

    Attributes:
        name: name of the background's folder, without its path on this machine.
        sha256: of the background's contents.
        background: pictures, each once.
        captions: texts, each with its own picture in `pictures`; none if no `queries` were given.
        nonsense: random words of the captions, or else of the built-in ones.
        queries_sha256: of captions and their pictures; None without captions.
        notes: sentences for the user.
    """

    name: str
    sha256: str
    background: tuple[Path, ...]
    captions: tuple[str, ...]
    pictures: tuple[ImageSource, ...]
    nonsense: tuple[str, ...]
    queries_sha256: str | None
    notes: tuple[str, ...]

    def embedded(self, model: MobileCLIP, progress: Progress = silent) -> RelevanceSamples:
        """Computes the embeddings, of length 1, in float64.

        Raises:
            InvalidInput: a picture cannot be used, or embeddings hardly differ.
        """
        background = embed_pictures(model, self.background, "relevance: background", progress)
        pictures = embed_pictures(model, self.pictures, "relevance: pictures of the queries", progress)
        progress("relevance: texts")
        texts = unit_if_distinct(
            exact_texts(model, encode([*self.captions, *self.nonsense], model.variant.tokens)), "texts"
        )
        count = len(self.captions)
        return RelevanceSamples(texts[:count], pictures, texts[count:], background)


def read_relevance_set(background: Path, queries: Path | None) -> RelevanceSet:
    """Reads and checks the samples to learn relevance from.

    Args:
        background: a folder; of more than 1,024 different pictures, evenly spaced ones are used.
        queries: captions with pictures, a dataset (docs/evaluation.md): a .csv with `image` and `text`, say.

    Raises:
        InvalidInput: no folder, fewer than 256 different pictures, or fewer than 256 captions with pictures.
    """
    files = image_files(background) if background.is_dir() else []
    check_background(background, files)
    different = {content_sha256(read_image(file)): file for file in reversed(files)}
    if len(different) < LEAST_BACKGROUND:
        raise InvalidInput(
            f"`background` {background} holds {len(different)} different pictures in {len(files)} files; "
            f"{LEAST_BACKGROUND} are needed; give more, of all kinds"
        )
    chosen = spread_evenly(sorted((file, digest) for digest, file in different.items()), MOST_BACKGROUND)
    notes = []
    if len(different) < len(files):
        notes.append(f"{background}: {len(files) - len(different)} pictures repeat others; each counts once.")
    captions, pictures, digest = ([], [], None) if queries is None else _queries(queries)
    if not captions:
        notes.append("Without `queries` the threshold is fitted to false alarms only; its misses are unknown.")
    return RelevanceSet(
        name=background.resolve().name,
        sha256=hashlib.sha256("".join(digest for _, digest in chosen).encode()).hexdigest(),
        background=tuple(file for file, _ in chosen),
        captions=tuple(captions),
        pictures=tuple(pictures),
        nonsense=words_at_random(captions or builtin_dataset().captions),
        queries_sha256=digest,
        notes=tuple(notes),
    )


def _queries(path: Path) -> tuple[list[str], list[ImageSource], str]:
    """Returns captions, each text and each picture once; the pictures; and their digest."""
    data = read_dataset(path)
    first: dict[str, int] = {}
    for text, index in zip(data.captions, data.caption_images, strict=True):
        if index not in first.values():
            first.setdefault(text, index)
    if len(first) < LEAST_QUERIES:
        raise InvalidInput(
            f"`queries` {path} holds {len(first)} different captions with pictures of their own, and {LEAST_QUERIES} "
            "are needed; give more, or leave `queries` out"
        )
    chosen = spread_evenly(list(first.items()), MOST_QUERIES)
    texts, pictures = [text for text, _ in chosen], [data.images[index] for _, index in chosen]
    digest = hashlib.sha256("\n".join(texts).encode())
    for picture in pictures:
        digest.update(hashlib.sha256(read_image(picture)).digest())
    return texts, pictures, digest.hexdigest()


def words_at_random(captions: Sequence[str]) -> tuple[str, ...]:
    """Returns texts of two to four random words of all captions; no text is a caption."""
    words = sorted({word.strip(".,:;!?\"'()") for text in captions for word in text.split()} - {""})
    chance, existing = random.Random(0), set(captions)
    drawn = (" ".join(chance.choices(words, k=chance.randint(2, 4))) for _ in range(2 * NONSENSE))
    return tuple(dict.fromkeys(text for text in drawn if text not in existing))[:NONSENSE]


def embed_pictures(model: MobileCLIP, sources: Sequence[ImageSource], what: str, progress: Progress) -> Doubles:
    """Returns embeddings of pictures [N, D], of length 1, computed in float64.

    Args:
        what: purpose and name of the pictures, for progress and errors.

    Raises:
        InvalidInput: a picture cannot be used, or embeddings hardly differ.
    """
    spec, parts = model.variant.preprocess, [np.zeros((0, model.variant.embed_dim))]
    for start in range(0, len(sources), AT_ONCE):
        progress(f"{what}, {start:,} of {len(sources):,}")
        part = sources[start : start + AT_ONCE]
        pixels = np.stack([preprocess(decode_image(read_image(source), str(source)), spec) for source in part])
        parts.append(embed_exactly(model, "image", Inputs((), (), pixels, np.zeros((0, 0), np.int64))))
    joined = np.concatenate(parts)
    return joined if not len(joined) else unit_if_distinct(joined, what)
