"""Faults in the .ort files next to an artifact."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from command_line import refusal, run
from exports import Exports
from json_files import edited_json
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.onnx.ort_file import OrtFile
from mobileclip_deploy.targets.values import Expected
from mobileclip_deploy.verify.checks.attachments import check_attachments

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def ported(exports: Exports) -> Bundle:
    """nano as PicQuery wants it: the app reads the .ort files alone."""
    torch.set_num_threads(1)
    return exports.layout("picquery", verify=False)


def checks(bundle: Bundle, tower: TowerName, folder: Path, edit: Edit) -> dict[str, Check]:
    """What `verify` says of the attachments in an edited copy beside its checkpoint, whose hashes are right again."""
    path = Path(shutil.copytree(bundle.path, folder / bundle.path.name))
    edit(path)
    file = path / "manifest.json"
    with edited_json(file) as manifest:
        for entry in manifest["towers"].values():
            for attached in entry.get("attachments", {}).values():
                there = path / attached["file"]
                attached |= {"bytes": there.stat().st_size, "sha256": artifact_sha256(there)}
    opened = Bundle.open(path)
    own = subject(opened, mcd.load_model(), Reference.read(opened.golden), folder / "again")
    return {check.step: check for check in check_attachments(own.towers[tower])}


def failed(found: dict[str, Check]) -> set[str]:
    return {step for step, check in found.items() if check.status == "failed"}


def manifest(tower: str, change: Callable[[dict[str, Any]], object]) -> Edit:
    def edit(folder: Path) -> None:
        with edited_json(folder / "manifest.json") as data:
            change(data["towers"][tower])

    return edit


def tolerating(tower: str, kind: str, tolerance: float | None) -> Edit:
    return manifest(tower, lambda entry: entry["attachments"][kind].update(tolerance=tolerance))


def weight(stem: str, change: Callable[[np.ndarray[Any, Any]], object]) -> Edit:
    """Change the largest weight where its bytes stand in the .ort file."""

    def edit(folder: Path) -> None:
        graph = onnx.load(folder / f"{stem}.onnx").graph
        raw = max((tensor.raw_data for tensor in graph.initializer), key=len)
        path = folder / f"{stem}.ort"
        data = path.read_bytes()
        assert data.count(raw) == 1
        values = np.frombuffer(raw, np.float32).copy()
        change(values)
        path.write_bytes(data.replace(raw, values.tobytes()))

    return edit


def larger(values: np.ndarray[Any, Any]) -> None:
    values *= 1.5


def one_word(values: np.ndarray[Any, Any]) -> None:
    """A row of the table of words that no stored prompt holds."""
    values[48_000 * 96 : 48_000 * 96 + 96] *= 2


def file(name: str, change: Callable[[bytes], bytes]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / name
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert path.read_bytes() != before

    return edit


def copy_of(name: str, other: str) -> Edit:
    return lambda folder: shutil.copy(folder / name, folder / other)


ORT_FAULTS: dict[str, tuple[TowerName, Edit]] = {
    "the largest weight times 1.5, image": ("image", weight("vision_model", larger)),
    "the largest weight times 1.5, text": ("text", weight("text_model", larger)),
    "a word that no prompt holds": ("text", weight("text_model", one_word)),
    "of the other tower": ("image", copy_of("text_model.ort", "vision_model.ort")),
    "truncated": ("image", file("vision_model.ort", lambda data: data[: len(data) // 2])),
    "empty": ("text", file("text_model.ort", lambda data: b"")),
    "the .onnx in its place": ("text", copy_of("text_model.onnx", "text_model.ort")),
    "tolerates 10": ("image", tolerating("image", "ort", 10.0)),
    "tolerates whatever": ("image", tolerating("image", "ort", None)),
    "not in the manifest": ("text", manifest("text", lambda entry: entry.pop("attachments"))),
}


@pytest.mark.once(by=lambda given: ORT_FAULTS[str(given["name"])][0])
@pytest.mark.parametrize("name", ORT_FAULTS)
def test_a_fault_in_an_ort_file_fails(ported: Bundle, name: str, tmp_path: Path) -> None:
    tower, edit = ORT_FAULTS[name]
    assert failed(checks(ported, tower, tmp_path, edit)), name


def written_anew(folder: Path) -> None:
    """The runtime lays an .ort file out otherwise each time."""
    before = (folder / "text_model.ort").read_bytes()
    reference = Reference.read(folder / "golden.safetensors")
    expected = Expected(reference.inputs.ids, reference.of("text"), 1e-3)
    OrtFile(folder / "text_model.ort").write(folder / "text_model.onnx", expected)
    assert (folder / "text_model.ort").read_bytes() != before


@pytest.mark.parametrize(("tower", "edit"), [("image", lambda folder: None), ("text", written_anew)], ids=["", "anew"])
def test_an_ort_file_in_other_bytes_passes(ported: Bundle, tower: TowerName, edit: Edit, tmp_path: Path) -> None:
    found = checks(ported, tower, tmp_path, edit)
    assert {step: check.status for step, check in found.items()} == {"ort answers": "passed", "ort": "passed"}


@pytest.mark.parametrize("kind", ["bundled_program", "etrecord"])
def test_what_0_4_wrote_beside_a_pte_is_left_to_that_version(ported: Bundle, kind: str, tmp_path: Path) -> None:
    def older(folder: Path) -> None:
        manifest("text", lambda entry: entry["attachments"].update({kind: entry["attachments"].pop("ort")}))(folder)
        with edited_json(folder / "manifest.json") as data:
            data["options"][kind] = "on"

    found = checks(ported, "text", tmp_path, older)[kind]
    assert (found.status, found.left_out) == ("not run", True)
    assert found.detail == "text_model.ort: mobileclip-deploy 0.4.0 checks it"


def test_an_attachment_that_this_version_knows_nothing_of_is_not_run(ported: Bundle, tmp_path: Path) -> None:
    def other(folder: Path) -> None:
        (folder / "notes.bin").write_bytes(b"x")
        manifest(
            "image",
            lambda entry: entry["attachments"].update(notes=entry["attachments"]["ort"] | {"file": "notes.bin"}),
        )(folder)

    found = checks(ported, "image", tmp_path, other)
    assert found["notes"].status == "not run"
    assert "can neither run nor write it" in str(found["notes"].detail)


def a_link_beside(path: Path, away: Path) -> None:
    """To another file of the bundle."""
    path.unlink()
    path.symlink_to(next(one for one in sorted(path.parent.iterdir()) if one.suffix == ".onnx").name)


NOT_ITS_OWN: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, away: path.unlink(),
    "a link out, to the file as it was": lambda path, away: (path.rename(away), path.symlink_to(away)),
    "a link nowhere": lambda path, away: (path.unlink(), path.symlink_to(away)),
    "a link beside": a_link_beside,
    "a folder": lambda path, away: (path.unlink(), path.mkdir()),
    "truncated": lambda path, away: path.write_bytes(path.read_bytes()[:-100]),
    "of another": lambda path, away: path.write_bytes(path.read_bytes()[::-1]),
}


@pytest.mark.slow  # artifacts/bundle/test_bundle.py has such files of a tower
@pytest.mark.parametrize("edit", NOT_ITS_OWN)
def test_an_attachment_that_is_not_the_file_of_the_bundle_is_refused_in_one_line(
    ported: Bundle, edit: str, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(ported.path, tmp_path / ported.path.name))
    NOT_ITS_OWN[edit](path / "vision_model.ort", tmp_path / "away")
    assert "vision_model.ort" in refusal(run("verify", path))


@pytest.mark.slow
def test_a_difference_to_what_other_versions_wrote_is_not_judged(ported: Bundle, tmp_path: Path) -> None:
    """What it answers is."""

    def older(change: Edit) -> Edit:
        def edit(folder: Path) -> None:
            written = folder / "manifest.json"
            with edited_json(written) as data:
                data["environment"]["onnxruntime"] = "1.20.0"
            change(folder)

        return edit

    found = checks(ported, "text", tmp_path / "a", older(weight("text_model", one_word)))
    assert {step: check.status for step, check in found.items()} == {"ort answers": "passed", "ort": "not run"}
    assert "written by other versions (onnxruntime 1.20.0" in str(found["ort"].detail)
    assert failed(checks(ported, "text", tmp_path / "b", older(weight("text_model", larger)))) == {"ort answers"}
