"""Reading: every kind of damaged or foreign file is refused in one line that says what to do, and nothing is run."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mobileclip_deploy.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.errors import CheckpointError

WEIGHTS = {"a.weight": torch.ones(4, 3), "a.bias": torch.zeros(4)}


def refusal(path: Path) -> str:
    """The refusal of a file: one line, no longer than a screen's few."""
    with pytest.raises(CheckpointError) as caught:
        open_tensors(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    assert caught.value.exit_code == 2
    return text


def saved(path: Path, data: Any, **options: Any) -> Path:
    torch.save(data, path, **options)
    return path


def safetensors(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file of these bytes, with the length the header claims to have."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


class Bomb:
    """What a malicious pickle does when it is loaded without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/mobileclip-deploy-was-here",)


def test_missing_file(tmp_path: Path) -> None:
    assert "no checkpoint at" in refusal(tmp_path / "absent.pt")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder; give the checkpoint file in it" in refusal(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.pt")


@pytest.mark.parametrize("content", [b"<html>", b"\x7fELF" + bytes(90), b"MZ" + bytes(90)])
def test_foreign_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    assert "neither a torch checkpoint nor a safetensors file" in refusal(tmp_path / "x.pt")


def test_git_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert "git lfs pull" in refusal(tmp_path / "x.safetensors")


def test_a_header_whose_length_begins_as_a_pickle_does(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for length in range(256):
        save_file(WEIGHTS, path, metadata={"note": "x" * length})
        if path.read_bytes()[0] == 0x80:
            assert open_tensors(path).metadata["note"] == "x" * length
            return
    pytest.fail("no header of that length")


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path / "x.pt", {"state_dict": WEIGHTS, "args": Bomb()}))
    assert "pickled code (posix.system), which is never run" in text
    assert not Path("/tmp/mobileclip-deploy-was-here").exists()


def test_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    assert "save its state_dict alone" in refusal(saved(tmp_path / "x.pt", torch.nn.Linear(2, 2)))


def test_legacy_format_is_read(tmp_path: Path) -> None:
    file = open_tensors(saved(tmp_path / "x.pt", WEIGHTS, _use_new_zipfile_serialization=False))
    assert torch.equal(file.read("a.weight"), WEIGHTS["a.weight"])


def test_torchscript_archive(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(tmp_path / "x.pt"))
    assert "TorchScript archive" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_torch_file(tmp_path: Path, kept: float, new_format: bool) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(400)}, _use_new_zipfile_serialization=new_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in refusal(path)


def test_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a torch checkpoint" in refusal(tmp_path / "x.pt")


def test_compressed_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.pt", "hello" * 100)
    assert "compressed zip" in refusal(tmp_path / "x.zip")


HEADERS: dict[str, Callable[[Path], Path]] = {
    "longer than the file": lambda path: safetensors(path, b'{"a":1}', length=10**6),
    "absurdly long": lambda path: safetensors(path, b'{"a":1}', length=2**63),
    "not JSON": lambda path: safetensors(path, b"{nonsense"),
    "not an object": lambda path: safetensors(path, b'{"a": []}'),
    "no data": lambda path: tensor_header(path, [4], [0, 16], b""),
    "too little data": lambda path: tensor_header(path, [4], [0, 16], bytes(8)),
    "too much data": lambda path: tensor_header(path, [4], [0, 16], bytes(32)),
    "shape and bytes disagree": lambda path: tensor_header(path, [5], [0, 16], bytes(16)),
    "offsets reversed": lambda path: tensor_header(path, [4], [16, 0], bytes(16)),
    "offset before": lambda path: tensor_header(path, [4], [-16, 0], bytes(16)),
    "a hole": lambda path: tensor_header(path, [4], [8, 24], bytes(24)),
    "overflowing shape": lambda path: tensor_header(path, [2**40, 2**40], [0, 16], bytes(16)),
    "unknown dtype": lambda path: tensor_header(path, [4], [0, 16], bytes(16), dtype="F31"),
}


def tensor_header(path: Path, shape: list[int], offsets: list[int], data: bytes, dtype: str = "F32") -> Path:
    header = {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}
    return safetensors(path, json.dumps(header).encode(), data)


@pytest.mark.parametrize("write", HEADERS.values(), ids=HEADERS)
def test_safetensors_with_a_lying_header(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    assert "not a valid safetensors file" in refusal(write(tmp_path / "x.safetensors"))


def test_safetensors_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(bytes(64))
    assert "is not a safetensors file: it has no header" in refusal(tmp_path / "x.safetensors")


def test_safetensors_without_tensors(tmp_path: Path) -> None:
    assert "holds no tensors" in refusal(safetensors(tmp_path / "x.safetensors", b"{}"))


CONTENTS: dict[str, Any] = {
    "a list": [torch.ones(2)],
    "a tensor": torch.ones(2),
    "numbers": {"epoch": 3, "loss": 0.1},
    "keys that are numbers": {0: torch.ones(2), 1: torch.ones(3)},
    "an empty wrapper": {"state_dict": {}},
}


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
def test_no_state_dict(tmp_path: Path, data: Any) -> None:
    assert "no state dict" in refusal(saved(tmp_path / "x.pt", data))


@pytest.mark.parametrize("wrapped", [True, False], ids=["beside an epoch", "alone"])
def test_optimizer_alone(tmp_path: Path, wrapped: bool) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    path = saved(tmp_path / "x.pt", {"epoch": 1, "optimizer": state} if wrapped else state)
    assert "holds an optimizer's state and no model" in refusal(path)


ODD: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "on no device": lambda: torch.empty(3, 3, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_dense(tmp_path: Path, make: Callable[[], torch.Tensor]) -> None:
    path = saved(tmp_path / "x.pt", {"w": make()})
    assert "not a dense tensor" in refusal(path) or "never run" in refusal(path)


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "state_dict": lambda weights: {"state_dict": weights},
    "open_clip training": lambda weights: {
        "epoch": 4,
        "name": "run",
        "state_dict": weights,
        "optimizer": {"state": {}},
    },
    "model": lambda weights: {"model": weights, "epoch": 1},
    "model and state_dict": lambda weights: {"model": {"state_dict": weights}},
    "module.": lambda weights: {f"module.{name}": value for name, value in weights.items()},
    "compiled and distributed": lambda weights: {f"module._orig_mod.{name}": value for name, value in weights.items()},
    "lightning": lambda weights: {"state_dict": {f"model.{name}": value for name, value in weights.items()}},
    "numbers beside": lambda weights: weights | {"input_resolution": 224},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_and_prefixes_are_seen_through(tmp_path: Path, wrap: Callable[[dict[str, Any]], Any]) -> None:
    file = open_tensors(saved(tmp_path / "x.pt", wrap(dict(WEIGHTS))))
    assert file.shapes == {"a.weight": (4, 3), "a.bias": (4,)}
    assert torch.equal(file.read("a.weight"), WEIGHTS["a.weight"])
    assert file.notes == ()


def test_prefixes_in_safetensors(tmp_path: Path) -> None:
    save_file({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "x.safetensors")
    assert torch.equal(open_tensors(tmp_path / "x.safetensors").read("a.weight"), WEIGHTS["a.weight"])


def test_averaged_weights_are_preferred_and_said(tmp_path: Path) -> None:
    averaged = {name: value + 1 for name, value in WEIGHTS.items()} | {"n_averaged": torch.tensor(5)}
    file = open_tensors(saved(tmp_path / "x.pt", {"state_dict": WEIGHTS, "state_dict_ema": averaged}))
    assert torch.equal(file.read("a.weight"), WEIGHTS["a.weight"] + 1)
    assert "averaged weights (state_dict_ema); they are used, `state_dict` is not" in file.notes[0]


def test_weights_twice_are_refused(tmp_path: Path) -> None:
    both = WEIGHTS | {f"module.{name}": value for name, value in WEIGHTS.items()}
    assert "holds weights twice" in refusal(saved(tmp_path / "x.pt", both))


@pytest.mark.whole
def test_optimizer_state_costs_no_memory(tmp_path: Path) -> None:
    state = {"state": {0: {"exp_avg": torch.ones(40_000_000)}}, "param_groups": []}
    path = saved(tmp_path / "x.pt", {"epoch": 1, "state_dict": WEIGHTS, "optimizer": state})
    code = (
        "import resource, sys, pathlib, torch\n"
        "from mobileclip_deploy.checkpoints.tensor_files import open_tensors\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "file = open_tensors(pathlib.Path(sys.argv[1]))\n"
        "assert all(file.read(name).isfinite().all() for name in file.shapes)\n"
        "print((peak() - before) // 1024)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    path.unlink()
    assert int(grown) < 40  # of 160 MB
