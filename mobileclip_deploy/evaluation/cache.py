"""Embeddings kept on disk, so that an interrupted evaluation goes on where it was, and a finished one costs little.

One folder an artifact, in it shards of about `SHARD` embeddings, each written beside its place and renamed: a killed
process loses the shard it was filling, and leaves none that is half written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import check_tensors

__all__ = ["SHARD", "EmbeddingStore", "content_id"]

SHARD = 256
FORMAT = "1"


def content_id(content: bytes) -> str:
    """What an input is kept under: the sha256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


class EmbeddingStore:
    """The embeddings of one artifact, by content.

    Args:
        folder: of all artifacts; made when the first shard is written.
        identity: all that decides the embeddings beside the content: embedding space, artifact, engine, preprocessing.

    Raises:
        InvalidInput: the folder is a file, or a shard in it cannot be read.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"the cache {folder} is a file; give a folder")
        self._identity = {"format": FORMAT} | identity
        key = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:32]
        self._folder = folder / key
        self._places: dict[str, tuple[Path, int]] = {}
        self._open: tuple[Path, npt.NDArray[np.float32]] | None = None
        self._pending: dict[str, npt.NDArray[np.float32]] = {}
        for shard in sorted(self._folder.glob("*.safetensors")):
            for row, name in enumerate(_names(shard)):
                self._places[name] = shard, row
        self._had = frozenset(self._places)

    def had(self, name: str) -> bool:
        """Whether it was kept when the store was opened: another thread may add to it meanwhile, and how many inputs
        are computed together must not depend on how far that is."""
        return name in self._had

    def __contains__(self, name: str) -> bool:
        return name in self._places or name in self._pending

    def get(self, name: str) -> npt.NDArray[np.float32]:
        """A kept embedding, float32 [D].

        Raises:
            InvalidInput: its shard was damaged since.
        """
        if name in self._pending:
            return self._pending[name]
        shard, row = self._places[name]
        if self._open is None or self._open[0] != shard:  # neighbours were written together
            self._open = shard, _embeddings(shard)
        return self._open[1][row]

    def add(self, names: Iterable[str], embeddings: npt.NDArray[np.float32]) -> None:
        """Keep the embeddings [N, D] of one batch; written when a shard is full. A shard ends where a batch does, so
        that a run that goes on forms the same batches as one that was never interrupted: rounding depends on them."""
        self._pending |= dict(zip(names, embeddings, strict=True))
        if len(self._pending) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            InvalidInput: the folder cannot be written.
        """
        if not self._pending:
            return
        names = list(self._pending)
        shard = self._folder / f"{content_id(' '.join(names).encode())[:32]}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"the cache {self._folder} cannot be written: {error.strerror}") from error
        values = torch.from_numpy(np.stack(list(self._pending.values())))
        metadata = self._identity | {"names": json.dumps(names)}
        write_tensors(shard, {"embeddings": values}, metadata)
        self._places |= {name: (shard, row) for row, name in enumerate(names)}
        self._pending = {}


def _names(shard: Path) -> list[str]:
    try:
        check_tensors(shard)
        with safe_open(shard, framework="np") as file:
            names = json.loads(file.metadata()["names"])
            rows = file.get_slice("embeddings").get_shape()[0]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{shard} is damaged ({error}); delete it, and it will be computed again") from error
    if len(names) != rows:
        raise InvalidInput(f"{shard} is damaged ({rows} rows for {len(names)} names); delete it")
    return list(names)


def _embeddings(shard: Path) -> npt.NDArray[np.float32]:
    try:
        with safe_open(shard, framework="np") as file:
            return np.asarray(file.get_tensor("embeddings"), dtype=np.float32)
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{shard} is damaged ({error}); delete it, and it will be computed again") from error
