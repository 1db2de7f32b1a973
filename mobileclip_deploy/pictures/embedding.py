"""Embedding of many texts: in batches, each different text once, and from the cache if possible."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.preprocessing import Pixels
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.cache import EmbeddingStore, in_order
from mobileclip_deploy.pictures.embedder import Embedder

BATCH = 64


def open_store(
    embedder: Embedder, tower: TowerName, cache: Path | None, fast_jpeg: bool = False, pixels: Pixels = "app"
) -> EmbeddingStore | None:
    """Opens the cached embeddings of one tower. None without a cache.

    Args:
        fast_jpeg: pictures are decoded with `pictures.Reading.fast_jpeg`, which changes their pixels.
        pixels: see `Pixels`.

    Raises:
        InvalidInput: see `EmbeddingStore`.
    """
    if cache is None:
        return None
    spec = embedder.preprocess
    how = f"{spec.size} {spec.resize} {spec.crop} {spec.interpolation}" if tower == "image" else "ids"
    if tower == "image" and spec.resized != spec.size:
        how += f" of {spec.resized}"
    if tower == "image" and not embedder.view.whole:
        how += f" {embedder.view}"
    if fast_jpeg:
        how += " fast_jpeg"
    if pixels != "app":
        how += f" {pixels} pixels"
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


def embed_prompts(
    embedder: Embedder, prompts: Sequence[str], cache: Path | None = None, progress: Progress = silent
) -> Floats:
    """Returns unit-length text embeddings [M, D].

    Raises:
        InvalidInput: the cache cannot be used.
    """
    return unit(embed_texts(embedder, prompts, cache=cache, progress=progress))


def embed_texts(
    embedder: Embedder,
    prompts: Sequence[str],
    *,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Floats:
    """Returns text embeddings [M, D] as the artifact computes them, not normalised.

    Raises:
        InvalidInput: the cache cannot be used, or the text tower has another vocabulary (`encode`).
        UsageError: it takes images alone.
    """
    if embedder.tokenizer is None:
        raise UsageError(f"{embedder.variant} has no text tower")
    store = open_store(embedder, "text", cache)
    parts = []
    try:
        for start in range(0, len(prompts), BATCH):
            progress(f"text {start} of {len(prompts)}")
            ids = encode(list(prompts[start : start + BATCH]), embedder.tokenizer)  # [B, L]
            names = [content_sha256(row.tobytes()) for row in ids]
            new = {name: row for name, row in zip(names, ids, strict=True) if store is None or name not in store}
            answers = dict(zip(new, embedder.texts(np.stack(list(new.values()))), strict=True)) if new else {}
            parts.append(in_order(names, answers, store)[0])
    finally:
        if store is not None:
            store.close()
    return np.concatenate(parts)


def embed_classes(
    embedder: Embedder, classes: Sequence[str], templates: Sequence[str], cache: Path | None = None
) -> Floats:
    """Returns one unit-length embedding per class, [K, D].

    It is the mean of the unit-length embeddings of the class's prompts, normalised again (prompt ensembling, as in
    CLIP's paper).

    Args:
        templates: prompts with `{}` for the class name.
    """
    total: Floats | None = None
    for template in templates:
        part = embed_prompts(embedder, [template.replace("{}", name) for name in classes], cache)
        total = part if total is None else total + part
    assert total is not None
    return unit(total)


def unit(values: Floats) -> Floats:
    """Scales rows [N, D] to length 1; a row of zeros stays zeros."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(norms, np.finfo(np.float32).tiny)


def at_length_one(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Scales rows [N, D] to length 1, in float64."""
    wide = values.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))
