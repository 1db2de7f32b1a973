"""Folders and many images are classified in batches; bad ones are named; JSON and CSV say what Python does."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal, run
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.pictures import embedding

HELD_OUT = models_dir() / "nano" / "evaluation" / "images"
PICTURES = {"pizza": "1f355", "rocket": "1f680", "cat face": "1f431"}
LABELS = ",".join(PICTURES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A picture of each label, in two folders, and a file that is none."""
    for number, (label, code) in enumerate(PICTURES.items()):
        folder = tmp_path / "photos" / f"{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HELD_OUT / f"{code}.png", folder / f"{label}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_folders_are_classified_in_batches_and_bad_images_are_named(
    exports: Exports, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BATCH", 2)
    bundle = exports.bundle("onnx", "fp16")
    with pytest.raises(InvalidInput, match=r"broken.png: not an image .*`skip_bad=True`"):
        mcd.classify(bundle, photos, LABELS)
    found = mcd.classify(bundle, photos, LABELS, top=2, skip_bad=True)
    assert [(one.image.stem, one.label) for one in found] == [(name, name) for name in ("cat face", "pizza", "rocket")]
    assert {len(one.probabilities) for one in found} == {2}
    assert [text.split(":")[0] for text in found.skipped] == [str(photos / "broken.png")]
    assert (len(found), found[1:]) == (3, tuple(found)[1:])


def test_a_pattern_names_files_and_a_checkpoint_answers_as_its_bundle(exports: Exports, photos: Path) -> None:
    whole = mcd.classify(exports.bundle("onnx", "fp32"), f"{photos}/*/*.png", list(PICTURES))
    again = mcd.classify(mcd.load_model(None, exports.checkpoint), [photos / "*" / "*.png", photos / "0"], LABELS)
    assert [one.image for one in whole] == [one.image for one in again]
    for one, other in zip(whole, again, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_the_command_prints_json_and_csv_of_the_same(exports: Exports, photos: Path) -> None:
    command = ["classify", exports.bundle("onnx", "fp16").path, photos, "--labels", LABELS, "--skip-bad"]
    told = run(*command, "--json").json
    assert [len(image["probabilities"]) for image in told] == [3, 3, 3, 0]
    assert [image["skipped"] for image in told[3:]] == list(
        mcd.classify(command[1], photos, LABELS, skip_bad=True).skipped
    )
    shown = run(*command, "--csv", "--top", "1")
    rows = list(csv.DictReader(shown.stdout.splitlines()))
    assert [(row["image"], row["label"]) for row in rows] == [
        (image["image"], next(iter(image["probabilities"]))) for image in told[:3]
    ]
    assert all(0 < float(row["probability"]) <= 1 for row in rows)
    assert "Skipped 1 bad image:" in shown.stderr
    assert f"{photos / 'broken.png'}: not an image" in shown.stderr
    assert "--skip-bad" in refusal(run(*command[:-1]))
    assert "exclude each other" in run(*command, "--csv", "--json").stderr


def test_a_file_named_twice_has_two_results_and_one_row(exports: Exports, photos: Path, tmp_path: Path) -> None:
    bundle, (first, second, *_) = exports.bundle("onnx", "fp32"), sorted((photos / "0").glob("*.png"))
    named = [first, second, first]
    results = mcd.classify(bundle, named, LABELS)
    assert [result.image for result in results] == named
    assert results[0] == results[2] != results[1]
    row = f"{first} is named 2 times; it has one row"
    for words in (["classify", "--labels", LABELS, "--json"], ["embed", "-o", str(tmp_path / "e.npy")]):
        outcome = run(words[0], str(bundle.path), *map(str, named), *words[1:])
        assert (outcome.code, outcome.stderr.count(row)) == (0, 1), outcome.stderr
    assert np.load(tmp_path / "e.npy").shape[0] == 2


def test_nothing_to_classify_is_refused(exports: Exports, photos: Path) -> None:
    bundle = exports.bundle("onnx", "fp16")
    for images, says in (
        ([], "no images were given"),
        (f"{photos}/*.jpg", "no file fits this pattern"),
        (photos / "broken.png", "all 1 images"),
    ):
        with pytest.raises(InvalidInput, match=says):
            mcd.classify(bundle, images, LABELS, skip_bad=True)
    with pytest.raises(UsageError, match="`top` 0"):
        mcd.classify(bundle, photos, LABELS, top=0)
    with pytest.raises(UsageError, match="no fixed labels; give labels with `labels="):
        mcd.classify(mcd.load_model(), photos)
