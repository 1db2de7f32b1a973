"""Writing: whole or not at all, readable by others, and one line when it fails, whoever noticed the disk is full."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError

from mobileclip_deploy.base.files.tensors import write_tensors
from mobileclip_deploy.errors import DiskFull
from mobileclip_deploy.network.checkpoints import writing
from mobileclip_deploy.network.checkpoints.writing import save_tensors

TENSORS = {"a": torch.ones(3), "b": torch.arange(6.0).reshape(2, 3).t()}
FULL = {
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "the system": OSError(28, "No space left on device"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_same_bytes_for_the_same_content_and_readable_by_all(tmp_path: Path, suffix: str) -> None:
    metadata = {f"key{index}": "väl" for index in range(20)}
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    save_tensors(first, TENSORS, metadata)
    save_tensors(second, TENSORS, dict(reversed(metadata.items())))
    if suffix == ".safetensors":
        assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


def test_numpy_writes_the_same_bytes(tmp_path: Path) -> None:
    metadata = {f"key{index}": "väl" for index in range(20)}
    save_tensors(tmp_path / "torch.safetensors", TENSORS, metadata)
    write_tensors(tmp_path / "numpy.safetensors", {name: value.numpy() for name, value in TENSORS.items()}, metadata)
    assert (tmp_path / "numpy.safetensors").read_bytes() == (tmp_path / "torch.safetensors").read_bytes()


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(writing, "save_file", Mock(side_effect=error))
    (tmp_path / "x.safetensors").write_text("before")
    with pytest.raises(DiskFull, match=r"no room is left on the disk of .*; make room there") as caught:
        save_tensors(tmp_path / "x.safetensors", TENSORS, {})
    assert "\n" not in str(caught.value)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
