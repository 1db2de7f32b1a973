"""A bundle is what its manifest lists and its target and layout write; every other file is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from json_files import repeat_key

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.chain import verify_subject
from mobileclip_deploy.verify.checks.files import check_files, unlisted_files
from mobileclip_deploy.verify.files_only import verify_files
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject

READ = (
    "added_tokens.json",
    "processor_config.json",
    "Generation_Config.json",
    "labels.json",
    "onnx/vision_model_quantized.onnx",
    "onnx/vision_model_fp16.onnx.data",
    "onnx/vision_model.onnx_data_1",
    "onnx/vision_model_fp16.ort",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer/tokenizer.json",
    "tokenizer/special_tokens_map.json",
    "open_clip_pytorch_model.bin",
    "nano_image.mlpackage/Manifest.json",
    "nano_text.tflite",
)
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("onnx", {"labels": "cat,dog", "tower": "image"}),
    ("onnx", {"layout": "immich"}),
    ("litert", {}),
)
HARMLESS = (
    "README.md",
    ".DS_Store",
    ".gitattributes",
    ".cache/huggingface/download/manifest.json.metadata",
    "photo.png",
    "notes/today.txt",
    "results.json",
    "smallest.svg",
)


def checked(bundle: Bundle, folder: Path) -> OpenedSubject:
    return OpenedSubject(bundle, Evidence(Reference.read(bundle.golden)), mcd.Gates(), folder)


@pytest.fixture
def path(exports: Exports, tmp_path: Path) -> Path:
    return exports.copy("onnx", "fp16", tmp_path)


@pytest.mark.parametrize("name", READ)
def test_a_file_that_a_library_reads_first_fails(name: str, path: Path, tmp_path: Path) -> None:
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("{}", encoding="utf-8")
    (check,) = check_files(checked(Bundle.open(path), tmp_path))
    assert (check.status, check.detail) == (
        "failed",
        f"{name}: not in the manifest, but a library would read it; remove it",
    )


def test_other_files_are_noted_and_fail_nothing(path: Path, tmp_path: Path) -> None:
    for name in HARMLESS:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("{}", encoding="utf-8")
    subject = checked(Bundle.open(path), tmp_path)
    assert unlisted_files(subject.bundle) == ([], sorted(HARMLESS))
    report = verify_subject(subject)
    assert [check.status for check in report.checks if check.step == "files"] == ["passed"]
    assert "not read by any known library: .DS_Store, .cache" in report.notes[-1]
    assert report.notes[-1].endswith("and 3 more.")


def test_a_large_json_file_with_a_key_twice_fails(path: Path, tmp_path: Path) -> None:
    repeat_key(path / "tokenizer" / "vocab.json")
    (check,) = check_files(checked(Bundle.open(path), tmp_path))
    assert check.status == "failed"
    assert "is given twice" in str(check.detail)


@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp16"), ("coreml", "fp32")])
def test_what_an_export_writes_is_listed(exports: Exports, target: str, precision: str) -> None:
    bundle = exports.unverified(target, precision, "both")
    assert unlisted_files(bundle) == ([], [])


def test_files_that_changed_since_a_bundle_was_opened_are_seen(exports: Exports, tmp_path: Path) -> None:
    """An open bundle was checked when it was opened, and its files may have changed since."""
    path = Path(shutil.copytree(exports.bundle("onnx", "fp16").path, tmp_path / "bundle"))
    bundle = mcd.Bundle.open(path)
    assert mcd.verify(bundle, only_files=True).passed
    artifact = bundle.artifact("image")
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"changed|sha256"):
        mcd.verify(bundle, only_files=True)


@pytest.mark.parametrize(("name", "key"), [("config.json", "projection_dim"), ("preprocessor_config.json", "size")])
def test_without_the_checkpoint_side_files_are_held_to_the_card(name: str, key: str, path: Path) -> None:
    file = path / name
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {key: 1}), encoding="utf-8")
    _, report = verify_files(path)
    (check,) = (check for check in report.checks if check.step == "companions")
    assert check.status == "failed"
    assert str(check.detail).startswith(f"{name} {key} is 1, nano's card has ")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "options"), KINDS)
def test_side_files_of_every_kind_of_bundle_match_their_card(
    target: str, options: dict[str, Any], tmp_path: Path
) -> None:
    bundle = mcd.export(mcd.load_model("nano"), target, output=tmp_path, verify=False, **options)
    _, report = verify_files(bundle)
    assert [check.status for check in report.checks if check.step == "companions"] == ["passed"]
