"""Reinforced shards by the published description, and the published reader's rules: nothing of the package is used.

The layout is that of the cards of apple/DataCompDR-12M and of apple/ml-mobileclip, hf_dataset_example.py.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packed import saved, write_tar
from PIL import Image

AUGMENTATIONS, SYNTHETIC, TEACHERS = 3, 2, (5, 4)
Members = dict[str, bytes]


class Runs:
    """Unpickled, it would have run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


def npz(arrays: dict[str, Any], pickled: bool = False) -> bytes:
    return saved(lambda stream: np.savez_compressed(stream, allow_pickle=pickled, **arrays))


def pth_gz(value: Any) -> bytes:
    return gzip.compress(saved(lambda stream: torch.save(value, stream)))


def uid(number: int) -> str:
    return f"{number:032x}"


def jpeg(number: int, width: int = 80, height: int = 60, form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return saved(lambda stream: Image.fromarray(pixels).resize((width, height)).save(stream, form))


def unit(rows: int, chance: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Each teacher's part has length 1."""
    parts = [chance.normal(size=(rows, size)) for size in TEACHERS]
    return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], 1).astype(np.float32)


def reinforcement(number: int, text: bool = True, bf16: bool = False) -> Members:
    """The members of one sample of a reinforced shard. `text`: param_aug is a text, as in the published files."""
    chance = np.random.default_rng(1000 + number)
    operations = [[int(op), float(m)] for op, m in zip(chance.integers(0, 5, 2), (0.09, -0.09), strict=True)]
    drawn: list[Any] = [[[view, view + 1, 40, 50], operations] for view in range(AUGMENTATIONS - 1)]
    drawn.append([[0, 0, 60, 80], None])
    arrays = {"image_emb": unit(AUGMENTATIONS, chance), "text_emb": unit(1 + SYNTHETIC, chance)}
    captions = [f"synthetic {number} {caption}" for caption in range(SYNTHETIC)]
    members = {
        "url.txt": b"https://example.org/picture.jpg",
        "syn.json": json.dumps({"syn_text": captions}).encode(),
        "paug.json": json.dumps({"param_aug": json.dumps(drawn) if text else drawn}).encode(),
        "json": json.dumps({"uid": uid(number), "sha256": "0" * 64}).encode(),
    }
    if bf16:
        members["pth.gz"] = pth_gz({name: torch.from_numpy(value).bfloat16() for name, value in arrays.items()})
    else:
        members["npz"] = npz(arrays)
    return members


def source(number: int) -> Members:
    return {"jpg": jpeg(number), "txt": f"true {number}".encode(), "json": json.dumps({"uid": uid(number)}).encode()}


def named(samples: dict[str, Members]) -> list[tuple[str, bytes]]:
    return [(f"{key}.{ending}", content) for key, parts in samples.items() for ending, content in parts.items()]


def write_pair(folder: Path, images: Path, shard: str, numbers: Iterable[int], **options: bool) -> None:
    """A reinforced shard, and the shard of its images under the same name."""
    listed = list(numbers)
    write_tar(folder / shard, named({uid(number): reinforcement(number, **options) for number in listed}))
    write_tar(images / shard, named({uid(number): source(number) for number in listed}))


def read(shard: Path) -> dict[str, dict[str, Any]]:
    """A shard by the rules of hf_dataset_example.py and of webdataset's decoders."""
    samples: dict[str, dict[str, Any]] = {}
    with tarfile.open(shard) as archive:
        for member in archive:
            key, ending = member.name.split(".", 1)
            stream = archive.extractfile(member)
            content = stream.read()
            value: Any = content
            if ending.endswith("json"):
                value = json.loads(content)
            elif ending == "npz":
                value = dict(np.load(io.BytesIO(content), allow_pickle=False))
            elif ending == "pth.gz":
                value = torch.load(io.BytesIO(gzip.decompress(content)), weights_only=True)
            elif ending.endswith("txt"):
                value = content.decode()
            samples.setdefault(key, {})[ending] = value
    return samples
