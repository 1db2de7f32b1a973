"""Bad input: one line on stderr, exit code 2, no traceback, nothing on stdout and nothing written."""

from __future__ import annotations

import importlib.util
import json
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Outcome, refusal, run, spawn
from exports import Exports
from safetensors.torch import save_file

from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.model.variants import variant_names
from mobileclip_deploy.targets import targets
from mobileclip_deploy.towers.samples import image_paths
from mobileclip_deploy.verify import subject

Write = Callable[[Path, Exports], Path]

pytestmark = pytest.mark.usefixtures("stored_conversions")


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(Path.home() / "mobileclip-deploy-was-here"), "w")


def content(name: str, data: bytes) -> Write:
    def write(folder: Path, _: Exports) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Write:
    """The built-in weights with a change."""

    def write(folder: Path, exports: Exports) -> Path:
        weights = exports.weights()
        change(weights)
        save_file(weights, folder / "changed.safetensors")
        return folder / "changed.safetensors"

    return write


def first(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(value for name, value in weights.items() if name.endswith("conv.weight"))


def truncated(folder: Path, exports: Exports) -> Path:
    torch.save(exports.weights(), folder / "cut.pt")
    data = (folder / "cut.pt").read_bytes()
    (folder / "cut.pt").write_bytes(data[: len(data) // 2])
    return folder / "cut.pt"


def folder(folder: Path, _: Exports) -> Path:
    (folder / "d").mkdir()
    return folder / "d"


def lying_header(data_end: int) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, data_end]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 16


CHECKPOINTS: dict[str, tuple[Write, str]] = {
    "missing": (lambda folder, _: folder / "gone.pt", "no checkpoint at"),
    "directory": (folder, "is a folder"),
    "empty": (content("e.pt", b""), "is empty"),
    "truncated": (truncated, "cut.pt"),
    "pickle with code": (content("p.pt", pickle.dumps({"state_dict": Code()})), "p.pt"),
    "header that promises more": (content("l.safetensors", lying_header(4000)), "not a valid safetensors file"),
    "header longer than the file": (content("l.safetensors", struct.pack("<Q", 2**40) + b"{}"), "safetensors"),
    "extra keys": (
        changed(lambda weights: weights.update({"image_encoder.extra": torch.ones(2)})),
        "image_encoder.extra",
    ),
    "missing keys": (changed(lambda weights: weights.pop(min(weights))), "missing"),
    "NaN weights": (changed(lambda weights: first(weights).fill_(float("nan"))), "NaN or infinite"),
    "infinite weights": (changed(lambda weights: first(weights).view(-1)[:1].fill_(float("inf"))), "NaN or infinite"),
    "half-folded": (
        changed(
            lambda weights: weights.update(
                {"image_encoder.model.patch_embed.0.reparam_conv.weight": torch.ones(32, 3, 3, 3)}
            )
        ),
        "already reparameterized, wholly or in part",
    ),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
@pytest.mark.parametrize("command", ["export", "reparameterize"])
def test_a_bad_checkpoint(tmp_path: Path, exports: Exports, case: str, command: str) -> None:
    write, reason = CHECKPOINTS[case]
    path = write(tmp_path, exports)
    arguments = {
        "export": ["--target", "onnx", "-o", tmp_path / "out"],
        "reparameterize": ["-o", tmp_path / "out" / "x.safetensors"],
    }[command]
    line = refusal(run(command, "--checkpoint", path, *arguments))
    assert reason in line
    assert len(line) < 1500
    assert not (tmp_path / "out").exists()
    assert not (Path.home() / "mobileclip-deploy-was-here").exists()


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("--target", targets()),
        ("--precision", [*(name for name in PRECISIONS if name != "mixed"), "smallest"]),
        ("--variant", variant_names()),
        ("--tower", ["image", "text", "both"]),
        ("--deployment-target", ["iOS15", "iOS16", "iOS17", "iOS18"]),
        ("--gate", ["semantic", "relative", "cosine", "task"]),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path, option: str, known: list[str]) -> None:
    options = {"--target": "coreml", "-o": str(tmp_path / "out")} | {option: "nonsense"}
    line = refusal(run("export", *(text for pair in options.items() for text in pair)))
    assert [name for name in known if name not in line] == []
    assert not (tmp_path / "out").exists()


def test_an_unknown_command() -> None:
    assert "exprot" in refusal(run("exprot"))


@pytest.mark.parametrize(("target", "package"), [("onnx", "onnxscript"), ("coreml", "coremltools")])
def test_a_target_whose_extra_is_not_installed_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, package: str
) -> None:
    find = importlib.util.find_spec

    def without(name: str, parent: str | None = None) -> ModuleSpec | None:
        return None if name == package else find(name, parent)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    line = refusal(run("export", "--target", target, "-o", tmp_path / "out"))
    assert f"pip install 'mobileclip-deploy[{target}]'" in line
    assert package in line
    assert not (tmp_path / "out").exists()


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {names} else find(name, package)
sys.meta_path.insert(0, Absent())
from mobileclip_deploy.cli import main
main()
"""


@pytest.mark.whole
@pytest.mark.once
@pytest.mark.parametrize("command", ["verify", "inspect", "classify"])
def test_a_bundle_of_a_target_whose_extra_is_not_installed(exports: Exports, command: str) -> None:
    program = [sys.executable, "-c", WITHOUT.format(names=("onnx", "onnxruntime", "onnxscript"))]
    arguments = [exports.bundle("onnx", "fp16").path]
    arguments += [image_paths()[0], "--labels", "a,b"] if command == "classify" else []
    assert "pip install 'mobileclip-deploy[onnx]'" in refusal(spawn(command, *arguments, program=program))


def export_to(path: Path, exports: Exports, *more: str) -> Outcome:
    return run("export", "--target", "onnx", "--checkpoint", exports.checkpoint, "-o", path, *more)


def test_one_bundle_that_exists_keeps_all_others_from_being_written(tmp_path: Path, exports: Exports) -> None:
    exports.copy("onnx", "fp16", tmp_path)
    assert "--force" in refusal(export_to(tmp_path, exports, "--precision", "fp32", "--precision", "fp16"))
    assert [path.name for path in tmp_path.iterdir()] == ["nano-onnx-fp16"]


def test_the_destination_is_refused_before_the_built_in_checkpoints_accuracy_is_measured(
    tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "measure", lambda *_, **__: pytest.fail("measured first"))
    exports.copy("onnx", "fp16", tmp_path)
    refusal(run("export", "--target", "onnx", "-o", tmp_path))


def test_reparameterize_refuses_what_it_would_overwrite_or_cannot_write(tmp_path: Path, exports: Exports) -> None:
    (tmp_path / "a.safetensors").write_text("mine")
    (tmp_path / "b.report.json").write_text("mine")
    for output in ("a.safetensors", "b.safetensors", "c.pt", "."):
        refusal(run("reparameterize", "--checkpoint", exports.checkpoint, "-o", tmp_path / output))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.report.json"]
    assert (tmp_path / "a.safetensors").read_text() == "mine"


def png_header(side: int) -> bytes:
    """A few bytes that say they are a picture of side x side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


IMAGES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "no such file"),
    "empty": (b"", "empty file"),
    "not an image": (b"import os\n" * 20, "not an image"),
    "a decompression bomb": (png_header(60_000), "megapixels"),
    "truncated": (image_paths()[0].read_bytes()[:2000], "truncated"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_a_bad_image(tmp_path: Path, exports: Exports, case: str) -> None:
    data, reason = IMAGES[case]
    if data is not None:
        (tmp_path / "x.png").write_bytes(data)
    good = image_paths()[0]
    line = refusal(run("classify", exports.bundle("onnx", "fp16").path, good, tmp_path / "x.png", "--labels", "a,b"))
    assert reason in line
    assert "x.png" in line


def test_a_bad_image_among_ones_own_for_verification(tmp_path: Path, exports: Exports) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    bundle = exports.bundle("onnx", "fp16").path
    assert "notes.txt" in refusal(run("verify", bundle, "--images", tmp_path / "photos"))
    assert "no folder" in refusal(run("verify", bundle, "--images", tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refusal(run("verify", bundle, "--images", tmp_path / "empty"))


@pytest.mark.parametrize("command", ["verify", "inspect", "classify", "evaluate"])
def test_a_damaged_bundle(tmp_path: Path, exports: Exports, command: str) -> None:
    path = exports.copy("onnx", "fp16", tmp_path)
    (path / "onnx" / "text_model_fp16.onnx").write_bytes(b"cut")
    arguments: list[object] = [image_paths()[0], "--labels", "a,b"] if command == "classify" else []
    assert "not the file that was exported" in refusal(run(command, path, *map(str, arguments)))
    (path / "manifest.json").write_text("{}")
    assert "manifest.json" in refusal(run(command, path, *map(str, arguments)))


def test_verify_refuses_a_report_that_it_cannot_write_before_it_measures(tmp_path: Path, exports: Exports) -> None:
    assert "is a folder" in refusal(run("verify", exports.bundle("onnx", "fp16").path, "--junit", tmp_path))
