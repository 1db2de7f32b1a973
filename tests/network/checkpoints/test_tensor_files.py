"""Reading: every kind of damaged or foreign file is refused in one line that says what to do, and nothing is run."""

import json
import os
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import output
from safetensors.torch import save_file

from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors

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


def test_the_legacy_format_and_prefixes_in_safetensors_are_read(tmp_path: Path) -> None:
    file = open_tensors(saved(tmp_path / "x.pt", WEIGHTS, _use_new_zipfile_serialization=False))
    assert torch.equal(file.read("a.weight"), WEIGHTS["a.weight"])
    save_file({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "x.safetensors")
    assert torch.equal(open_tensors(tmp_path / "x.safetensors").read("a.weight"), WEIGHTS["a.weight"])


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_torch_file(tmp_path: Path, kept: float, new_format: bool) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(400)}, _use_new_zipfile_serialization=new_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in refusal(path)


def zipped(path: Path, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("readme.txt", "hello" * 100)


def tensor_header(path: Path, shape: list[int], offsets: list[int], data: bytes, dtype: str = "F32") -> None:
    header = {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}
    safetensors(path, json.dumps(header).encode(), data)


def optimizer_state() -> dict[str, Any]:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(path))


FOREIGN, LYING = "neither a torch checkpoint nor a safetensors file", "not a valid safetensors file"
OPTIMIZER, NO_STATE, ODD = "holds an optimizer's state and no model", "no state dict", "not a dense tensor|never run"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
# What is written where the file should be, and what the refusal says.
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "no checkpoint at"),
    "a folder": (Path.mkdir, "is a folder; give the checkpoint file in it"),
    "an empty file": (Path.touch, r"is empty \(0 bytes\)"),
    "HTML": (lambda path: path.write_bytes(b"<html>"), "is a web page, not weights"),
    "a program": (lambda path: path.write_bytes(b"\x7fELF" + bytes(90)), FOREIGN),
    "a pointer of git LFS": (lambda path: path.write_bytes(POINTER), "git lfs pull"),
    "a zip of something else": (zipped, "not a torch checkpoint"),
    "a compressed zip": (lambda path: zipped(path, zipfile.ZIP_DEFLATED), "compressed zip"),
    "TorchScript": (scripted, "TorchScript archive"),
    "a pickled model": (lambda path: saved(path, torch.nn.Linear(2, 2)), "save its state_dict alone"),
    "a header longer than the file": (lambda path: safetensors(path, b'{"a":1}', length=10**6), LYING),
    "an absurdly long header": (lambda path: safetensors(path, b'{"a":1}', length=2**63), LYING),
    "a header that is no JSON": (lambda path: safetensors(path, b"{nonsense"), LYING),
    "a header that is no object": (lambda path: safetensors(path, b'{"a": []}'), LYING),
    "no data": (lambda path: tensor_header(path, [4], [0, 16], b""), LYING),
    "too little data": (lambda path: tensor_header(path, [4], [0, 16], bytes(8)), LYING),
    "too much data": (lambda path: tensor_header(path, [4], [0, 16], bytes(32)), LYING),
    "shape and bytes disagree": (lambda path: tensor_header(path, [5], [0, 16], bytes(16)), LYING),
    "offsets reversed": (lambda path: tensor_header(path, [4], [16, 0], bytes(16)), LYING),
    "an offset before": (lambda path: tensor_header(path, [4], [-16, 0], bytes(16)), LYING),
    "a hole": (lambda path: tensor_header(path, [4], [8, 24], bytes(24)), LYING),
    "an overflowing shape": (lambda path: tensor_header(path, [2**40, 2**40], [0, 16], bytes(16)), LYING),
    "an unknown dtype": (lambda path: tensor_header(path, [4], [0, 16], bytes(16), dtype="F31"), LYING),
    "no header": (lambda path: path.write_bytes(bytes(64)), "is not a safetensors file: it has no header"),
    "no tensors": (lambda path: safetensors(path, b"{}"), "holds no tensors"),
    "a list": (lambda path: saved(path, [torch.ones(2)]), NO_STATE),
    "a tensor": (lambda path: saved(path, torch.ones(2)), NO_STATE),
    "numbers": (lambda path: saved(path, {"epoch": 3, "loss": 0.1}), NO_STATE),
    "keys that are numbers": (lambda path: saved(path, {0: torch.ones(2), 1: torch.ones(3)}), NO_STATE),
    "an empty wrapper": (lambda path: saved(path, {"state_dict": {}}), NO_STATE),
    "an optimizer alone": (lambda path: saved(path, optimizer_state()), OPTIMIZER),
    "an optimizer and an epoch": (lambda path: saved(path, {"epoch": 1, "optimizer": optimizer_state()}), OPTIMIZER),
    "sparse": (lambda path: saved(path, {"w": torch.eye(3).to_sparse()}), ODD),
    "on no device": (lambda path: saved(path, {"w": torch.empty(3, 3, device="meta")}), ODD),
    "quantized": (lambda path: saved(path, {"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}), ODD),
    "weights twice": (
        lambda path: saved(path, WEIGHTS | {f"module.{name}": value for name, value in WEIGHTS.items()}),
        "holds weights twice",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_holds_no_weights_is_refused_with_what_it_is(tmp_path: Path, case: str) -> None:
    write, said = REFUSED[case]
    path = tmp_path / ("x.safetensors" if said in (LYING, "holds no tensors") or "header" in case else "x.pt")
    write(path)
    assert re.search(said, refusal(path))


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


def test_averaged_weights_are_preferred_and_said(tmp_path: Path) -> None:
    averaged = {name: value + 1 for name, value in WEIGHTS.items()} | {"n_averaged": torch.tensor(5)}
    file = open_tensors(saved(tmp_path / "x.pt", {"state_dict": WEIGHTS, "state_dict_ema": averaged}))
    assert torch.equal(file.read("a.weight"), WEIGHTS["a.weight"] + 1)
    assert "averaged weights (state_dict_ema); they are used, `state_dict` is not" in file.notes[0]


@pytest.mark.slow
def test_optimizer_state_costs_no_memory(tmp_path: Path) -> None:
    state = {"state": {0: {"exp_avg": torch.ones(40_000_000)}}, "param_groups": []}
    path = saved(tmp_path / "x.pt", {"epoch": 1, "state_dict": WEIGHTS, "optimizer": state})
    code = (
        "import resource, sys, pathlib, torch\n"
        "from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "file = open_tensors(pathlib.Path(sys.argv[1]))\n"
        "assert all(file.read(name).isfinite().all() for name in file.shapes)\n"
        "print((peak() - before) // 1024)\n"
    )
    grown = output(sys.executable, "-c", code, str(path))
    path.unlink()
    assert int(grown) < 40  # of 160 MB
