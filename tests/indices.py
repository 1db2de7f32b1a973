"""Indices for tests: unit vectors of random numbers by seed."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import Store
from mobileclip_deploy.search.writing import create
from mobileclip_deploy.spaces.int8 import INT8_MOST

DIMENSION = 24
SCALE = 0.9 / INT8_MOST


def units(count: int, seed: int = 0, dimension: int = DIMENSION) -> npt.NDArray[np.float32]:
    """float32 [count, dimension] of length 1."""
    values = np.random.default_rng(seed).standard_normal((count, dimension))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def header(store: str, dimension: int = DIMENSION) -> Header:
    scale = SCALE if store in ("int8", "bits") else 0.0
    return Header(Store(store, dimension, scale), Description(embedding_space="space", variant="nano"))


def written(path: Path, vectors: npt.NDArray[np.float32], store: str = "int8", together: int = 7) -> Path:
    """An index of vectors called 0, 1, 2, ..., given to the writer a few at a time."""
    ids = [str(number) for number in range(len(vectors))]
    starts = range(0, len(vectors), together)
    parts = ((ids[k : k + together], [k + 1] * len(ids[k : k + together]), vectors[k : k + together]) for k in starts)
    create(path, header(store, vectors.shape[1]), parts)
    return path
