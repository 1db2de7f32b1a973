"""Embedding many images and texts: in batches, each once, and from the cache what is in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.cache import EmbeddingStore, content_id
from mobileclip_deploy.evaluation.embedder import Embedder
from mobileclip_deploy.evaluation.image_sources import ImageSource, read_image
from mobileclip_deploy.model.preprocessing import decode_image, preprocess
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.model.variants import TowerName

__all__ = [
    "BATCH",
    "embed_classes",
    "embed_contents",
    "embed_dataset_images",
    "embed_prompts",
    "embed_texts",
    "_load_pixels",
    "_open_store",
    "unit",
]

BATCH = 64
Floats = npt.NDArray[np.float32]
T = TypeVar("T", np.float32, np.int64)


def _open_store(embedder: Embedder, tower: TowerName, cache: Path | None) -> EmbeddingStore | None:
    """The cached embeddings of one tower; None without a cache.

    Raises:
        InvalidInput: see `EmbeddingStore`.
    """
    if cache is None:
        return None
    spec = embedder.preprocess
    how = f"{spec.size} {spec.resize} {spec.crop} {spec.interpolation}" if tower == "image" else "ids"
    if tower == "image" and not embedder.view.whole:
        how += f" {embedder.view}"
    return EmbeddingStore(
        cache,
        {
            "embedding_space": embedder.embedding_space,
            "tower": tower,
            "artifact": embedder.artifact(tower),
            "engine": embedder.engine,
            "input": how,
        },
    )


def embed_dataset_images(
    embedder: Embedder,
    images: Sequence[ImageSource],
    rows: Sequence[str],
    *,
    skip_bad: bool = False,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Floats, dict[int, str]]:
    """Embeddings of image files as the artifact gives them, not normalised, a batch in memory at a time.

    Args:
        rows: where each image stands, for errors.
        skip_bad: leave out images that cannot be used instead of refusing the first.
        cache: a folder of embeddings.

    Returns:
        float32 [N, D] of the usable images in order, and what is wrong with the others, by position.

    Raises:
        InvalidInput: an image cannot be used, or none can.
    """
    store = _open_store(embedder, "image", cache)
    parts: list[Floats] = []
    bad: dict[int, str] = {}
    told = remaining(len(images))
    try:
        for start in range(0, len(images), BATCH):
            progress(f"image {start} of {len(images)}{told(start)}")
            batch = range(start, min(start + BATCH, len(images)))
            parts.append(_image_batch(embedder, [(i, rows[i], images[i]) for i in batch], store, skip_bad, bad))
    finally:
        if store is not None:  # also when interrupted
            store.flush()
    if len(bad) == len(images):
        raise InvalidInput(f"none of the {len(images)} images can be used; the first: {next(iter(bad.values()))}")
    return np.concatenate([part for part in parts if len(part)]), bad


def embed_contents(embedder: Embedder, images: Sequence[tuple[str, bytes]], cache: Path | None = None) -> Floats:
    """Embeddings [N, D] of image files' contents, not normalised; equal ones are computed once.

    Args:
        images: what errors call each, and its bytes.

    Raises:
        InvalidInput: one cannot be used, or the cache cannot.
    """
    store = _open_store(embedder, "image", cache)
    parts = []
    try:
        for start in range(0, len(images), BATCH):
            names, pixels = [], {}
            for where, content in images[start : start + BATCH]:
                name = content_id(content)
                names.append(name)
                if name not in pixels and (store is None or name not in store):
                    pixels[name] = _load_pixels(embedder, content, where)
            parts.append(_computed_or_kept(names, pixels, store, embedder.images))
    finally:
        if store is not None:
            store.flush()
    return np.concatenate(parts)


def remaining(total: int) -> Callable[[int], str]:
    """What to say of the time that is left when so many of `total` are done, counted from now; nothing of the first."""
    began = time.monotonic()

    def said(done: int) -> str:
        seconds = (time.monotonic() - began) * (total - done) / done if done else 0.0
        minutes, rest = divmod(round(seconds), 60)
        return f", about {minutes} min {rest} s left" if minutes else f", about {rest} s left" if rest else ""

    return said


def _image_batch(
    embedder: Embedder,
    batch: list[tuple[int, str, ImageSource]],
    store: EmbeddingStore | None,
    skip_bad: bool,
    bad: dict[int, str],
) -> Floats:
    names: list[str] = []
    pixels: dict[str, Floats] = {}
    for number, row, source in batch:
        try:
            content = read_image(source)
            name = content_id(content)
            if name not in pixels and (store is None or name not in store):
                pixels[name] = _load_pixels(embedder, content, str(source))
        except InvalidInput as error:
            text = str(error) if row == str(source) else f"{row}: {error}"
            if not skip_bad:
                raise InvalidInput(f"{text}; correct it, or leave such images out with `skip_bad=True`") from None
            bad[number] = text
            continue
        names.append(name)
    return _computed_or_kept(names, pixels, store, embedder.images)


def _load_pixels(embedder: Embedder, content: bytes, name: str) -> Floats:
    """An image file's content as the embedder takes it: float32 [3, S, S] in [0, 1].

    Raises:
        InvalidInput: it is no image, or one that cannot be used; `name` is what the error calls it.
    """
    image = embedder.view.of(decode_image(content, name))
    try:
        return preprocess(image, embedder.preprocess).numpy()
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None


def embed_prompts(embedder: Embedder, prompts: Sequence[str], cache: Path | None = None) -> Floats:
    """Unit-length text embeddings [M, D].

    Raises:
        InvalidInput: the cache cannot be used.
    """
    return unit(embed_texts(embedder, prompts, cache=cache))


def embed_texts(
    embedder: Embedder,
    prompts: Sequence[str],
    *,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Floats:
    """Text embeddings [M, D] as the artifact gives them, not normalised.

    Raises:
        InvalidInput: the cache cannot be used.
    """
    store = _open_store(embedder, "text", cache)
    parts = []
    try:
        for start in range(0, len(prompts), BATCH):
            progress(f"text {start} of {len(prompts)}")
            ids = tokenize(list(prompts[start : start + BATCH]), embedder.context_length)  # [B, 77]
            names = [content_id(row.tobytes()) for row in ids]
            new = {name: row for name, row in zip(names, ids, strict=True) if store is None or name not in store}
            parts.append(_computed_or_kept(names, new, store, embedder.texts))
    finally:
        if store is not None:
            store.flush()
    return np.concatenate(parts)


def embed_classes(
    embedder: Embedder, classes: Sequence[str], templates: Sequence[str], cache: Path | None = None
) -> Floats:
    """A unit-length embedding a class, [K, D]: the mean of those of its prompts, each of unit length, normalised again
    (prompt ensembling, as in CLIP's paper).

    Args:
        templates: with `{}` where the class name goes.
    """
    total: Floats | None = None
    for template in templates:
        part = embed_prompts(embedder, [template.replace("{}", name) for name in classes], cache)
        total = part if total is None else total + part
    assert total is not None
    return unit(total)


def _computed_or_kept(
    names: list[str],
    new: dict[str, npt.NDArray[T]],
    store: EmbeddingStore | None,
    compute: Callable[[npt.NDArray[T]], Floats],
) -> Floats:
    """The embeddings of one batch in the order of its names: new inputs are computed together, and kept."""
    computed: dict[str, Floats] = dict(zip(new, compute(np.stack(list(new.values()))), strict=True)) if new else {}
    if store is not None and computed:
        store.add(computed, np.stack(list(computed.values())))
    rows = [computed[name] if name in computed or store is None else store.get(name) for name in names]
    return np.stack(rows).astype(np.float32, copy=False) if rows else np.zeros((0, 0), np.float32)


def unit(values: Floats) -> Floats:
    """Rows [N, D] at length 1; a row of zeros stays zeros."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(norms, np.finfo(np.float32).tiny)
