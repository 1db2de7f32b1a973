"""A query that no picture fits finds nothing: what is learned of that, written into a bundle, asked and verified."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refusal, run
from exports import Exports
from indices import units
from json_files import edited_json
from PIL import Image
from relevant_bundle import relevant_bundle
from safetensors.numpy import load_file, save_file

from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle
from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.search import spaces
from mobileclip_deploy.spaces.relevance_fit import RelevanceSamples, area, fit, measured_curve, observed
from mobileclip_deploy.spaces.relevance_set import read_relevance_set
from mobileclip_deploy.verify.checks.relevance import check_relevance
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject

PICTURES = models_dir() / "nano" / "evaluation" / "images"
Change = Callable[[dict[str, np.ndarray]], None]


def made(count: int = 600, dimension: int = 24) -> RelevanceSamples:
    """Captions near to their pictures, how near says their first component; nonsense is near to nothing."""
    chance = np.random.default_rng(3)
    texts = units(count, 1, dimension).astype(np.float64)
    texts[:, 0] *= 2
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    pictures = texts + np.where(texts[:, :1] < 0, 0.3, 0.1) * chance.standard_normal((count, dimension))
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    return RelevanceSamples(
        texts, pictures, units(200, 2, dimension).astype(float), units(256, 4, dimension).astype(float)
    )


def test_the_threshold_holds_the_false_alarms_that_it_aims_at_for_libraries_of_other_sizes() -> None:
    samples, other = made(), made(1200).some(np.arange(600, 1200), np.arange(200))
    fitted = fit(samples)
    assert fitted.slope > 0
    assert fitted.threshold(400) > fitted.threshold(50)
    asked = observed(other, (50, 100, 200, 400), seed=7)
    lifted = asked.best + fitted.lifted(other.queries, other.spreads)[asked.query]
    for size in (50, 100, 200, 400):
        passed = lifted >= fitted.threshold(size)
        alarms = [passed[(asked.size == size) & (asked.kind == kind)].mean() for kind in (1, 2)]
        assert 0.1 < np.mean(alarms) < 0.3, size


def test_captions_that_are_far_from_their_pictures_are_told_by_their_embedding() -> None:
    for point in measured_curve(made()):
        assert 1 - point.auc_left_out < 0.8 * (1 - point.cosine_auc_left_out), point
        assert point.missed is not None
        assert [found for _, found in point.roc] == sorted(found for _, found in point.roc)


def test_without_captions_only_false_alarms_are_looked_at() -> None:
    samples = made()
    background = RelevanceSamples(samples.texts[:0], samples.pictures[:0], samples.nonsense, samples.background)
    fitted = fit(background)
    assert (np.abs(fitted.weights).max(), fitted.spread) == (0, 0)
    for point in measured_curve(background):
        assert (point.missed, point.left_out, point.auc_nonsense, point.roc) == (None, None, None, ())
        assert 0.1 < point.nonsense < 0.3


def test_captions_of_other_pictures_are_refused() -> None:
    samples = made()
    mixed = RelevanceSamples(samples.texts, np.roll(samples.pictures, 1, axis=0), samples.nonsense, samples.background)
    with pytest.raises(InvalidInput, match=r"nearer to their own pictures than to 50% of the others"):
        fit(mixed)


def test_the_area_under_the_curve_counts_equal_values_half() -> None:
    assert area(np.asarray([1.0, 2.0]), np.asarray([1.0, 0.0])) == 0.875


@pytest.fixture
def relevant(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(spaces, "cache_folder", lambda name: tmp_path / "cache" / name)
    return relevant_bundle(exports.unverified("onnx", "w8", "both"), tmp_path / "nano-relevant")


def library(bundle: Bundle, folder: Path) -> Path:
    photos = folder / "photos"
    photos.mkdir()
    for name in ("1f697", "1f355", "1f431", "1f680"):
        Image.open(PICTURES / f"{name}.png").save(photos / f"{name}.png")
    assert run("embed", bundle.path, photos, "-o", folder / "a.mcdx").code == 0
    return folder / "a.mcdx"


def test_a_text_that_no_picture_fits_finds_nothing_and_says_what_it_would_need(
    relevant: Bundle, tmp_path: Path
) -> None:
    index = library(relevant, tmp_path)
    found = run("search", index, "rocket", "xqzv bloop", "--json")
    first, second = found.json["answers"]
    assert (found.code, first["found"], second["found"], second["matches"]) == (0, True, False, [])
    assert first["matches"][0]["score"] == first["best"] >= first["needed"]
    assert second["best"] < second["needed"]
    told = run("search", index, "xqzv bloop", "--html", tmp_path / "page.html")
    assert (told.code, told.stdout.startswith("xqzv bloop: nothing found; the nearest")) == (0, True)
    assert "nothing found" in (tmp_path / "page.html").read_text()
    shown = run("search", index, "xqzv bloop", "--threshold", "-1", "--json").json["answers"][0]
    assert (shown["found"], len(shown["matches"])) == (True, 4)
    assert not run("search", index, "rocket", "--threshold", "0.99", "--json").json["answers"][0]["found"]
    picture = run("search", index, "--image", tmp_path / "photos" / "1f680.png", "--json").json["answers"][0]
    assert (picture["found"], picture.get("needed")) == (True, None)
    assert "--threshold" in refusal(run("search", index, "rocket", "--threshold", "2"))


def checked(path: Path) -> tuple[str, str]:
    bundle = Bundle.open(path)
    subject = OpenedSubject(bundle, Evidence(Reference.read(bundle.golden)), Gates(), Path())
    check = check_relevance(subject)[0]
    return check.status, str(check.detail)


def changed_manifest(path: Path, **fields: object) -> None:
    with edited_json(path / MANIFEST) as told:
        told["relevance"] |= fields


def changed_file(path: Path, change: Change) -> None:
    """Change the numbers, and repair size and hash in the manifest."""
    file = path / "relevance.safetensors"
    tensors = {name: values.copy() for name, values in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)
    changed_manifest(path, file={"file": file.name, "sha256": file_sha256(file), "bytes": file.stat().st_size})


def edited(name: str, place: Any, factor: int = 1, added: float = 0) -> Change:
    """Some numbers of a tensor are multiplied, or something is added to them."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][place] = factor * tensors[name][place] + added

    return change


def columns(tensors: dict[str, np.ndarray]) -> None:
    tensors["background"] = np.ascontiguousarray(np.roll(tensors["background"], 1, axis=1))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (edited("background", (17, 3), added=5), "golden prompt"),
        (edited("background", 200, -1), "golden prompt"),
        (edited("background", 9, 0), "background picture 9 has length 0.000"),
        (columns, "golden prompt"),
        (edited("weights", 5, added=0.01), "needed of golden prompt"),
        ({"intercept": 0.21}, "needed of golden prompt"),
        ({"slope": 0.0201}, "needed of golden prompt"),
        ({"spread": 0.2}, "needed of golden prompt"),
        ({"scale": 0.0041}, "length"),
        ({"golden": []}, "golden prompts"),
        ({"images": 255}, "does not match the manifest"),
    ],
)
def test_a_changed_background_or_threshold_is_seen_though_its_hash_is_repaired(
    relevant: Bundle, fault: Change | dict[str, object], said: str
) -> None:
    if callable(fault):
        changed_file(relevant.path, fault)
    else:
        changed_manifest(relevant.path, **fault)
    status, detail = checked(relevant.path)
    assert status == "failed"
    assert said in detail


def test_a_sound_bundle_passes_and_one_whose_file_changed_does_not_open(relevant: Bundle) -> None:
    assert checked(relevant.path)[0] == "passed"
    tensors = load_file(relevant.path / "relevance.safetensors")
    tensors["background"][0, 0] += 1
    save_file(tensors, relevant.path / "relevance.safetensors")
    with pytest.raises(InvalidInput, match=r"relevance\.safetensors is not the file that was exported"):
        Bundle.open(relevant.path)


def test_too_few_pictures_repeated_ones_and_too_few_captions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        read_relevance_set(tmp_path / "none", None)
    many = sorted(PICTURES.iterdir())[:300]
    for number, file in enumerate(many[:200]):
        for copy in range(2):
            shutil.copy(file, tmp_path / f"{number}-{copy}.png")
    with pytest.raises(InvalidInput, match="195 different pictures in 400 files; 256 are needed"):
        read_relevance_set(tmp_path, None)
    for file in many[200:]:
        shutil.copy(file, tmp_path / file.name)
    found = read_relevance_set(tmp_path, None)
    assert len(found.background) < 301
    assert any("repeat others" in text for text in found.notes)
    assert any("false alarms only" in text for text in found.notes)
    rows = "".join(f"{file},caption {number % 40}\n" for number, file in enumerate(many))
    (tmp_path / "captions.csv").write_text("image,text\n" + rows)
    with pytest.raises(InvalidInput, match="40 different captions with pictures of their own, and 256 are needed"):
        read_relevance_set(tmp_path, tmp_path / "captions.csv")


def test_what_cannot_be_learned_is_refused_before_a_checkpoint_is_read(tmp_path: Path) -> None:
    export = ("export", "--target", "onnx", "-o", tmp_path)
    assert "--queries need --background" in refusal(run(*export, "--queries", tmp_path / "a.csv"))
    assert "both towers" in refusal(run(*export, "--background", tmp_path, "--tower", "image"))
    assert "--labels needs --examples" in refusal(run(*export, "--background", tmp_path, "--labels", "cat,dog"))
    assert "--false-tags needs --examples" in refusal(run(*export, "--labels", "cat,dog", "--false-tags", "5%"))
    assert "smallest" in refusal(run(*export, "--background", tmp_path, "--precision", "smallest"))
