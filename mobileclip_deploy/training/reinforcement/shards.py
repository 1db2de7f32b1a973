"""Shards: safetensors of augmentations and bfloat16 embeddings of some hundred pairs each, checked when read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mobileclip_deploy.base.files import read_regular, write_whole
from mobileclip_deploy.errors import REASON, InvalidInput, reraising
from mobileclip_deploy.training.reinforcement.index import ShardEntry, ShardIndex

SHARDS = f"shard-{'[0-9]' * 8}*.safetensors"
SHARD_BYTES = 8 << 30


@dataclass(frozen=True)
class Shard:
    """`n` pairs of a dataset. Augmentations are float32 [n, K, P], SHA-256 of the image files uint8 [n, 32], numbers of
    captions int64 [n]. Each teacher has bfloat16 unit embeddings: of the augmented images [n, K, D], and of all
    captions [sum of counts, D], the true one of a pair first."""

    parameters: Tensor
    image_sha256: Tensor
    captions: Tensor
    images: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors by the names they are stored under."""
        named = {"parameters": self.parameters, "image_sha256": self.image_sha256, "captions": self.captions}
        named |= {f"images.{index}": value for index, value in enumerate(self.images)}
        return named | {f"texts.{index}": value for index, value in enumerate(self.texts)}


def write_shard(folder: Path, first: int, shard: Shard) -> ShardEntry:
    """Writes a shard, whole or not at all; the same content gives the same bytes.

    Returns:
        Its entry for the index.
    """
    content = save({name: value.contiguous() for name, value in shard.tensors().items()})
    name = f"shard-{first:08d}.safetensors"
    write_whole(folder / name, content)
    rows = len(shard.parameters)
    return ShardEntry(file=name, sha256=hashlib.sha256(content).hexdigest(), first=first, rows=rows)


def read_shard(folder: Path, index: ShardIndex, entry: ShardEntry) -> Shard:
    """Reads a shard and checks it against the index.

    Raises:
        InvalidInput: missing, changed since it was written, or with embeddings of another size than the teachers'.
    """
    file = folder / entry.file
    absent, damaged = f"{file} cannot be read ({REASON}); {_AGAIN}", f"{file} is damaged ({REASON}); {_AGAIN}"
    with reraising(absent, OSError), reraising(damaged, SafetensorError):
        content = read_regular(file, SHARD_BYTES)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise InvalidInput(f"{file} is damaged (its checksum differs from the index's); {_AGAIN}")
        tensors = load(content)
    return _checked(tensors, index, entry, file)


_AGAIN = "repeat the same `mobileclip-deploy reinforce`, which replaces missing and damaged shards"


def _checked(tensors: dict[str, Tensor], index: ShardIndex, entry: ShardEntry, file: Path) -> Shard:
    count = len(index.teachers)
    try:
        shard = Shard(
            tensors["parameters"],
            tensors["image_sha256"],
            tensors["captions"],
            tuple(tensors[f"images.{number}"] for number in range(count)),
            tuple(tensors[f"texts.{number}"] for number in range(count)),
        )
    except KeyError as error:
        raise InvalidInput(f"{file} has no tensor {error.args[0]}; it has fewer teachers than the index") from None
    captions = int(shard.captions.sum())
    shapes: dict[str, tuple[int, ...]] = {
        "parameters": (entry.rows, index.augmentations, len(index.parameters)),
        "image_sha256": (entry.rows, 32),
        "captions": (entry.rows,),
    }
    for number, teacher in enumerate(index.teachers):
        shapes[f"images.{number}"] = (entry.rows, index.augmentations, teacher.embed_dim)
        shapes[f"texts.{number}"] = (captions, teacher.embed_dim)
    for name, value in shard.tensors().items():
        if tuple(value.shape) != shapes[name]:
            raise InvalidInput(
                f"{file}: {name} is {list(value.shape)}, but the index's teachers have {list(shapes[name])}; it "
                "belongs to another dataset: create this one again in another folder"
            )
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise InvalidInput(f"{file}: {name} has NaN or infinite elements; create the dataset again")
    return shard
