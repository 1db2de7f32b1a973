"""The bundle on disk: what is damaged is refused with what is wrong; a new one is there whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from json_files import edited_json

from mobileclip_deploy.artifacts.bundle import Bundle, staged_bundle
from mobileclip_deploy.base import files
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.base.files.staging import StagingLock, claimed
from mobileclip_deploy.errors import InvalidInput, UsageError


@pytest.fixture
def damaged(exports: Exports, tmp_path: Path) -> Path:
    """A bundle to be damaged."""
    return exports.copy("onnx", "fp16", tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = path / "manifest.json"
    with edited_json(manifest) as data:
        change(data)


def text(path: Path) -> Path:
    return path / "onnx" / "text_model_fp16.onnx"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def manifest(content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / "manifest.json").write_bytes(content)


def entry(tower: str, field: str, value: object) -> Callable[[Path], object]:
    return lambda path: edit(path, lambda data: data["towers"][tower].update({field: value}))


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "no such folder"),
    "a file": (lambda path: (shutil.rmtree(path), path.write_text("x")), "is a file"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "it has no manifest.json"),
    "empty manifest": (manifest(b""), "cannot be read"),
    "manifest not JSON": (manifest(b"{'variant': 1}"), "cannot be read"),
    "manifest not UTF-8": (manifest(b'{"variant": "\xff"}'), "cannot be read"),
    "manifest nested without end": (manifest(b"[" * 100_000), "cannot be read"),
    "manifest not an object": (manifest(b"[]"), "manifest.json"),
    "manifest without fields": (manifest(b"{}"), "variant"),
    "manifest is a folder": (
        lambda path: ((path / "manifest.json").unlink(), (path / "manifest.json").mkdir()),
        "not a regular file",
    ),
    "later schema": (lambda path: edit(path, lambda data: data.update(schema_version=3)), "schema_version"),
    "field that no version has": (lambda path: edit(path, lambda data: data.update(colour="red")), "colour"),
    "no towers": (lambda path: edit(path, lambda data: data.update(towers={})), "towers"),
    "unknown tower": (
        lambda path: edit(path, lambda data: data["towers"].update(sound=data["towers"]["text"])),
        "towers",
    ),
    "unknown precision": (entry("image", "precision", "fp3"), "fp3"),
    "artifact missing": (lambda path: text(path).unlink(), "text_model_fp16.onnx is missing"),
    "artifact truncated": (lambda path: os.truncate(text(path), 1000), "not the file that was exported"),
    "artifact changed, its size kept": (lambda path: flip(text(path)), "not the file that was exported"),
    "artifact is the other tower's": (
        entry("text", "file", "onnx/vision_model_fp16.onnx"),
        "not the file that was exported",
    ),
    "artifact beside the bundle": (entry("text", "file", "../other/model.onnx"), "not a plain path inside"),
    "artifact at an absolute path": (entry("text", "file", "/etc/hostname"), "not a plain path inside"),
    "artifact is a link out of the bundle": (
        lambda path: (shutil.move(text(path), path.parent), text(path).symlink_to(path.parent / text(path).name)),
        "is a link out of the bundle",
    ),
    "a file that nobody reads is a link out of the bundle": (
        lambda path: (path / "unread.txt").symlink_to("/etc/hostname"),
        "unread.txt is a link out of the bundle",
    ),
    "a folder is a link out of the bundle": (
        lambda path: (path / "onnx" / "more").symlink_to(path.parent),
        "more is a link out of the bundle",
    ),
    "a link leads to the bundle itself": (
        lambda path: (path / "onnx" / "more").symlink_to(path),
        "more is a link out of the bundle",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_bundle_is_refused_with_what_is_wrong(damaged: Path, case: str) -> None:
    damage, reason = DAMAGED[case]
    damage(damaged)
    with pytest.raises(InvalidInput) as refused:
        Bundle.open(damaged)
    assert reason in str(refused.value)


def test_a_name_that_is_nearly_right_and_the_folder_of_bundles_lead_to_a_bundle(damaged: Path) -> None:
    with pytest.raises(InvalidInput, match=f"no such folder, did you mean {damaged.name}\\?$"):
        Bundle.open(damaged.with_name(damaged.name[:-1]))
    shutil.copytree(damaged, damaged.parent / ".half-written")
    with pytest.raises(InvalidInput, match=f"; give one of those in it, such as {damaged}$"):
        Bundle.open(damaged.parent)


def test_a_bundle_opens_wherever_it_is_moved_and_links_within_it_and_to_it_are_followed(
    damaged: Path, tmp_path: Path
) -> None:
    text(damaged).rename(damaged / "kept.onnx")
    text(damaged).symlink_to("../kept.onnx")
    (tmp_path / "link").symlink_to(damaged)
    assert Bundle.open(tmp_path / "link").artifact("text").is_file()
    moved = damaged.rename(damaged.with_name("renamed"))
    assert Bundle.open(moved).artifact("text").is_file()


def test_a_bundle_names_the_tower_that_it_lacks(damaged: Path) -> None:
    edit(damaged, lambda data: data["towers"].pop("image"))
    with pytest.raises(UsageError, match="holds no image tower"):
        Bundle.open(damaged).artifact("image")


def test_the_manifest_says_where_mean_and_std_are_applied_and_what_must_not_be_compared(exports: Exports) -> None:
    bundle = Bundle.open(exports.bundle("onnx", "fp16").path)
    found = bundle.manifest
    assert found.preprocess.where == "graph"
    assert found.embedding_space == f"nano-{str(found.checkpoint.weights)[:16]}"
    assert found.checkpoint.file == "mine.safetensors"
    assert all(check.status == "passed" for check in bundle.parity)


def test_a_bundle_of_the_first_schema_opens_with_the_checks_in_its_manifest(exports: Exports, damaged: Path) -> None:
    checks = json.loads((damaged / "parity.json").read_text(encoding="utf-8"))["checks"]
    edit(damaged, lambda data: (data.pop("measurements"), data.update(schema_version=1, parity=checks)))
    (damaged / "parity.json").unlink()
    old = Bundle.open(damaged)
    assert [check.step for check in old.parity] == [check["step"] for check in checks]
    assert old.measurements is None
    assert old.manifest.as_dict()["parity"] == checks


def test_a_packages_hash_covers_names_and_contents(tmp_path: Path) -> None:
    package = tmp_path / "p.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "a").write_bytes(b"one")
    first = artifact_sha256(package)
    assert artifact_bytes(package) == 3
    (package / "Data" / "a").rename(package / "Data" / "b")
    second = artifact_sha256(package)
    (package / "Data" / "b").write_bytes(b"two")
    assert len({first, second, artifact_sha256(package)}) == 3


def write(path: Path, content: str, force: bool = False) -> None:
    with staged_bundle(path, force) as staging:
        (staging / "manifest.json").write_text(content)


def content(path: Path) -> str:
    return (path / "manifest.json").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_appears_when_it_is_whole(tmp_path: Path) -> None:
    with staged_bundle(tmp_path / "b", force=False) as staging:
        (staging / "manifest.json").write_text("new")
        assert not (tmp_path / "b").exists()
    assert content(tmp_path / "b") == "new"
    assert names(tmp_path) == ["b"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_export_leaves_nothing_not_even_the_folders_above(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    with pytest.raises(failure), staged_bundle(tmp_path / "new" / "deeper" / "b", force=False):
        raise failure
    assert names(tmp_path) == []


def test_a_failed_export_leaves_folders_that_others_use(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_bundle(tmp_path / "new" / "b", force=False):
        (tmp_path / "new" / "other").mkdir()
        raise RuntimeError
    assert names(tmp_path / "new") == ["other"]


def test_a_failed_replacement_leaves_the_bundle_that_was_there_and_another_has_nothing_of_it(tmp_path: Path) -> None:
    write(tmp_path / "b", "old")
    with pytest.raises(RuntimeError), staged_bundle(tmp_path / "b", force=True) as staging:
        (staging / "manifest.json").write_text("new")
        raise RuntimeError
    assert content(tmp_path / "b") == "old"
    assert names(tmp_path) == ["b"]
    (tmp_path / "b" / "stale.onnx").write_text("x")
    write(tmp_path / "b", "new", force=True)
    assert names(tmp_path / "b") == ["manifest.json"]
    assert content(tmp_path / "b") == "new"
    assert names(tmp_path) == ["b"]


def test_the_bundle_that_was_there_comes_back_if_taking_its_place_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "b", "old")
    rename = files.rename

    def interrupted(source: Path, target: Path) -> None:
        if ".partial-" in source.name:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(files, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "b", "new", force=True)
    assert content(tmp_path / "b") == "old"
    assert names(tmp_path) == ["b"]


def left_by_a_killed_export(path: Path) -> StagingLock:
    """A claim that nobody holds the lock of."""
    claim = StagingLock(path, "0123abcd")
    claim.lock.write_text("")
    return claim


def test_what_a_killed_export_left_is_cleared_away_by_the_next_of_any_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left_by_a_killed_export(tmp_path / "other").partial.mkdir()
    write(tmp_path / "b", "new")
    assert names(tmp_path) == ["b"]
    assert [record.getMessage() for record in caplog.records] == [
        f"note: removed {tmp_path / '.other.partial-0123abcd'}, left by a run that was killed"
    ]


def test_what_a_running_export_is_writing_is_left_alone(tmp_path: Path) -> None:
    with claimed(tmp_path / "b") as claim:
        claim.partial.mkdir()
        write(tmp_path / "b", "new")
        assert names(tmp_path) == sorted([claim.partial.name, claim.lock.name, "b"])
    assert names(tmp_path) == ["b"]


def test_a_bundle_that_a_killed_replacement_had_set_aside_comes_back(tmp_path: Path) -> None:
    write(left_by_a_killed_export(tmp_path / "b").replaced, "old")
    left_by_a_killed_export(tmp_path / "b")
    with pytest.raises(UsageError, match="`force=True`"):
        write(tmp_path / "b", "new")
    assert content(tmp_path / "b") == "old"
    assert names(tmp_path) == ["b"]


def test_hidden_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".b.partial-0123abcd"  # the name of ours, without its lock
    other.mkdir()
    write(tmp_path / "b", "new")
    assert other.is_dir()


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written|not writable"):
        write(tmp_path / ("b" * 300), "new")
