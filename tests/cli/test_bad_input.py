"""Bad input: one line on stderr, exit code 2, no traceback, nothing on stdout and nothing written."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from command_line import refusal, run, spawn
from exports import Exports

from mobileclip_deploy.evaluation import looks
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.variants import variant_names
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.targets import targets


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("--target", targets()),
        ("--precision", [*(name for name in PRECISIONS if name != "mixed"), "smallest"]),
        ("--variant", [f"`variants` lists all {len(variant_names())}"]),  # too many for one line
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


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("command", ["verify", "inspect", "classify"])
def test_a_bundle_of_a_target_whose_extra_is_not_installed(exports: Exports, command: str) -> None:
    program = [sys.executable, "-c", WITHOUT.format(names=("onnx", "onnxruntime", "onnxscript"))]
    arguments = [exports.bundle("onnx", "fp16").path]
    arguments += [image_paths()[0], "--labels", "a,b"] if command == "classify" else []
    assert "pip install 'mobileclip-deploy[onnx-run]'" in refusal(spawn(command, *arguments, program=program))


def test_one_bundle_that_exists_keeps_all_others_from_being_written(tmp_path: Path, exports: Exports) -> None:
    exports.copy("onnx", "fp16", tmp_path)
    command = ("export", "--target", "onnx", "--checkpoint", exports.checkpoint, "-o", tmp_path)
    assert "--force" in refusal(run(*command, "--precision", "fp32", "--precision", "fp16"))
    assert [path.name for path in tmp_path.iterdir()] == ["nano-onnx-fp16"]


def test_the_destination_is_refused_before_the_built_in_checkpoints_accuracy_is_measured(
    tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "measure", lambda *_, **__: pytest.fail("first measured"))
    exports.copy("onnx", "fp16", tmp_path)
    refusal(run("export", "--target", "onnx", "-o", tmp_path))


def test_reparameterize_refuses_what_it_would_overwrite_or_cannot_write(tmp_path: Path, exports: Exports) -> None:
    (tmp_path / "a.safetensors").write_text("mine")
    (tmp_path / "b.report.json").write_text("mine")
    for output in ("a.safetensors", "b.safetensors", "c.pt", "."):
        refusal(run("reparameterize", "--checkpoint", exports.checkpoint, "-o", tmp_path / output))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.report.json"]
    assert (tmp_path / "a.safetensors").read_text() == "mine"


def test_a_bad_image_among_ones_own_for_verification(tmp_path: Path, exports: Exports) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    bundle = exports.bundle("onnx", "fp16").path
    assert "notes.txt" in refusal(run("verify", bundle, "--images", tmp_path / "photos"))
    assert "no folder" in refusal(run("verify", bundle, "--images", tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    assert "has no images" in refusal(run("verify", bundle, "--images", tmp_path / "empty"))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_bad_prompts(tmp_path: Path, exports: Exports, content: bytes) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    assert "p.txt" in refusal(run("verify", exports.bundle("onnx", "fp16").path, "--prompts", tmp_path / "p.txt"))


def test_verify_refuses_a_report_that_it_cannot_write_before_it_measures(tmp_path: Path, exports: Exports) -> None:
    assert "is a folder" in refusal(run("verify", exports.bundle("onnx", "fp16").path, "--junit", tmp_path))
