"""Reinforced shards as JSON lines, as apple/ml-mobileclip-dr writes them beside tars: one sample per line.

src/raygen/datasetio.py (`JsonlWriter`, `lossless_compress`) at commit 418551d: images are base64, embeddings are base64
of gzip of a pickled numpy array of float32. The pickle is not run: of its globals two are known, and both are ours.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import math
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files.tars import Place

__all__ = ["BYTES", "SUFFIX", "embeddings_of", "gunzipped", "line_shards", "member", "scan_lines"]


def gunzipped(content: bytes, limit: int, what: str) -> bytes:
    """What was packed by gzip; of a bomb no more than the limit is unpacked.

    Raises:
        ValueError: it is damaged, or more than `limit` bytes; the text begins with `what` it is.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{what} is damaged ({error})") from error
    if len(unpacked) > limit:
        raise ValueError(f"{what} unpacks to more than {limit:,} bytes")
    return unpacked


SUFFIX, INFO = ".jsonl", "info.json"
BYTES = 256 << 20
"""Most bytes of a line, and of what comes out of one array in it. Thirty embeddings and a photograph take half a
megabyte."""


def line_shards(folder: Path) -> list[Path]:
    """The shards of a folder that has raygen's `info.json`, in order; none of another folder."""
    return sorted(folder.rglob(f"*{SUFFIX}")) if (folder / INFO).is_file() else []


def scan_lines(shard: Path) -> dict[str, dict[str, Place]]:
    """Which parts each sample has, by its uid and by the names that they have in a tar; all lie in the one line.

    Raises:
        InvalidInput: a line is no sample, or there twice.
    """
    samples: dict[str, dict[str, Place]] = {}
    offset = 0
    try:
        with shard.open("rb") as stream:
            while line := stream.readline(BYTES + 1):
                place = Place(offset, len(line))
                offset += len(line)
                if not line.strip():
                    continue
                item = _item(line, shard, place)
                uid = item.get("uid") or item.get("id")
                if not isinstance(uid, str) or uid in samples:
                    raise InvalidInput(f"{shard}: the line at byte {place.offset} has no uid of its own; leave it out")
                samples[uid] = dict.fromkeys(_endings(item), place)
    except OSError as error:
        raise InvalidInput(f"{shard} cannot be read ({error.strerror or error}); is its disk still there?") from error
    return samples


def member(line: bytes, part: str) -> bytes:
    """What a tar would hold of a part of the sample; of embeddings the line itself.

    Raises:
        ValueError: no JSON, or an image that is no base64.
    """
    item = _parsed(line)
    if part == "image":
        return _base64(item["image"])
    if part == "text":
        return str(item["text"] if "text" in item else item["caption"]).encode()
    if part == "synthetic":
        return json.dumps({key: value for key, value in item.items() if _synthetic(key)}).encode()
    if part == "parameters":
        return json.dumps({"param_aug": item["param_aug"]}).encode()
    return line


def embeddings_of(line: bytes) -> dict[str, Tensor]:
    """The arrays of a sample by their names.

    Raises:
        ValueError: damaged, larger than `BYTES`, or pickled objects other than one array of float32.
    """
    item = _parsed(line)
    return {key.replace("embedding", "emb"): _array(value) for key, value in item.items() if "emb" in key}


def _endings(item: Mapping[str, Any]) -> list[str]:
    found = ["jpg"] if isinstance(item.get("image"), str) and item["image"] else []
    found += ["txt"] if "text" in item or "caption" in item else []
    found += ["syn.json"] if any(map(_synthetic, item)) else []
    found += ["paug.json"] if "param_aug" in item else []
    return found + (["jsonl"] if any("emb" in key for key in item) else [])


def _synthetic(key: str) -> bool:
    return (key.startswith("syn_text") or "_captions" in key) and not key.endswith(("embedding", "emb"))


def _item(line: bytes, shard: Path, place: Place) -> Mapping[str, Any]:
    try:
        if len(line) > BYTES:
            raise ValueError(f"it has more than {BYTES:,} bytes")
        return _parsed(line)
    except ValueError as error:
        raise InvalidInput(f"{shard}: the line at byte {place.offset} is no sample ({error}); leave it out") from error


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        item = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(item, dict):
        raise ValueError(f"a {type(item).__name__} instead of a JSON object")
    return item


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"no base64 ({error})") from error


def _array(text: object) -> Tensor:
    if isinstance(text, list):  # as raygen's own reader allows it
        return torch.tensor(text, dtype=torch.float32)
    content = gunzipped(_base64(text), BYTES, "an array")
    try:
        found = _Arrays(io.BytesIO(content)).load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle fails in whatever way its bytes lead to
        raise ValueError(f"an array is damaged ({' '.join(str(error).split())[:80]})") from error
    if not isinstance(found, _Floats):
        raise ValueError("an array is something else than an array")
    return found.tensor()


class _Dtype:
    """What stands for numpy's dtype while a pickle is read."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Floats:
    """What stands for the array: its bytes, dtype and shape."""

    def __init__(self, content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.content, self.dtype, self.shape, self.order = content, dtype, shape, order

    def tensor(self) -> Tensor:
        plain = isinstance(self.dtype, _Dtype) and (self.dtype.name, self.dtype.order) == ("f4", "<")
        if not plain or self.order != "C" or 4 * math.prod(self.shape) != len(self.content):
            raise ValueError("an array is no table of float32")
        return torch.from_numpy(np.frombuffer(bytes(self.content), "<f4").reshape(self.shape).astype(np.float32))


class _Arrays(pickle.Unpickler):
    """Reads a pickled array of numbers and nothing else: no function that a pickle names is ever called."""

    def find_class(self, module: str, name: str) -> Any:
        known = {("numpy", "dtype"): _Dtype}
        known |= {(f"{core}.numeric", "_frombuffer"): _Floats for core in ("numpy.core", "numpy._core")}  # type: ignore[misc]
        if (module, name) not in known:
            raise ValueError("an array holds pickled objects, which are never run")
        return known[module, name]
