"""raygen's shards of JSON lines are the same samples as its tars, and no pickle in them is run."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import published_shards as published
import pytest
import torch
from tiny import tiny_variant

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.learning.datacompdr import PublishedDataset, PublishedTeacher, ShardSettings
from mobileclip_deploy.learning.datacompdr.dataset import Drawn

VARIANT = tiny_variant("tiny_mci")
TEACHERS = tuple(PublishedTeacher(embed_dim=size, scale=10.0 * size) for size in published.TEACHERS)
SHARD = "00000000"


def compressed(value: Any) -> str:
    """raygen's `lossless_compress`."""
    content = pickle.dumps(np.array(value, dtype="float32"), protocol=pickle.HIGHEST_PROTOCOL)
    return base64.b64encode(gzip.compress(content)).decode()


def line(uid: str, sample: dict[str, Any], **more: Any) -> str:
    """A sample as raygen's `JsonlWriter` writes what its `TarWriter` writes as `sample`."""
    item = {"uid": uid, "text": sample["txt"], **sample["syn.json"], **sample["paug.json"]}
    item["image"] = base64.b64encode(sample["jpg"]).decode()
    item |= {name: compressed(value) for name, value in sample["npz"].items()}
    return json.dumps(item | more) + "\n"


@pytest.fixture
def samples(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Four samples as tars hold them, and the same as lines."""
    published.write_pair(tmp_path / "tars", tmp_path / "images", f"{SHARD}.tar", range(4))
    found = published.read(tmp_path / "tars" / f"{SHARD}.tar")
    for uid, parts in published.read(tmp_path / "images" / f"{SHARD}.tar").items():
        found[uid] |= parts
    write(tmp_path, "".join(line(uid, sample) for uid, sample in found.items()))
    return found


def write(folder: Path, text: str) -> None:
    place = folder / "lines"
    place.mkdir(exist_ok=True)
    (place / f"{SHARD}.jsonl").write_text(text, encoding="utf-8")
    (place / "info.json").write_text(json.dumps({"lengths": {f"{SHARD}.jsonl": "4"}, "totalLength": "4"}))


def opened(folder: Path, name: str, images: Path | None = None) -> PublishedDataset:
    return PublishedDataset(folder / name, VARIANT, ShardSettings(teachers=TEACHERS, images=images))


@pytest.mark.usefixtures("samples")
def test_lines_are_the_samples_of_the_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mobileclip_deploy.learning.datacompdr.dataset.tokenize",
        lambda texts, length: np.array([[len(text)] * length for text in texts]),
    )
    tars, lines = opened(tmp_path, "tars", tmp_path / "images"), opened(tmp_path, "lines")
    assert len(lines) == len(tars) == 4
    for row in range(4):
        one, other = (dataset[Drawn(row, 0.5, 0, 0.9, 0)] for dataset in (tars, lines))
        assert torch.equal(one.crop, other.crop)
        assert torch.equal(one.ids, other.ids)
        assert all(map(torch.equal, (*one.images, *one.texts), (*other.images, *other.texts)))


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_pickle_in_a_line_is_not_run(
    tmp_path: Path, samples: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = base64.b64encode(gzip.compress(pickle.dumps(_Runs()))).decode()
    uid, sample = next(iter(samples.items()))
    write(tmp_path, line(uid, sample, image_emb=hostile))
    told = r"lines/00000000\.jsonl: the line at byte 0: an array holds pickled objects, which are never run; download"
    with pytest.raises(InvalidInput, match=told):
        opened(tmp_path, "lines")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("!", "no base64"),
        (base64.b64encode(b"plain").decode(), "an array is damaged"),
        (compressed([[float("nan")] * 9] * 3), "image_emb holds NaN or infinite numbers"),
        (compressed([[1.0] * 8] * 3), "image_emb has 8 values where the teachers give 5 + 4"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    value: str, words: str, tmp_path: Path, samples: dict[str, dict[str, Any]]
) -> None:
    uid, sample = next(iter(samples.items()))
    write(tmp_path, line(uid, sample, image_emb=value))
    with pytest.raises(InvalidInput, match="the line at byte 0") as refused:
        opened(tmp_path, "lines")
    assert words in refused.value.line


@pytest.mark.parametrize(("text", "words"), [("{", "is no sample"), ("{}\n", "has no uid of its own")])
def test_what_is_no_line_of_a_sample_is_refused(text: str, words: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(InvalidInput, match=rf"{SHARD}\.jsonl: the line at byte 0 {words}"):
        opened(tmp_path, "lines")


def test_lines_without_raygens_info_are_no_shards(tmp_path: Path) -> None:
    write(tmp_path, "{}\n")
    (tmp_path / "lines" / "info.json").unlink()
    with pytest.raises(InvalidInput, match="holds no shards"):
        opened(tmp_path, "lines")
