"""`audit` of embeddings: what an app computed is the checkpoint's, or its mistake is named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from exports import Exports
from verify.audit.app_mistakes import IDS, MISTAKES, PROMPTS, TEXTS, cased, cropped, embeddings, pictures, upright

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.variants import models_dir

EMOJI = sorted((models_dir() / "nano" / "evaluation" / "images").glob("1f43*.png"))
QUICK = ("EXIF ignored",)
# The rest of the table is in tests/verify/audit/app_mistakes.py, a script.
MORE = ("bicubic", "stretch and BGR")


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    return mcd.load_model()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from mobileclip_deploy.network.samples import image_paths

    return pictures(tmp_path_factory.mktemp("photos"), image_paths()[:4])


def app_rows(model: mcd.MobileCLIP, photos: list[Path], mistake: str) -> np.ndarray:
    app = MISTAKES[mistake][1]
    return embeddings(model, "image", np.stack([app(photo) for photo in photos]).astype(np.float32))


@pytest.mark.parametrize("mistake", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_a_mistake_of_preprocessing_is_named(
    mistake: str, model: mcd.MobileCLIP, photos: list[Path], tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.npy"
    np.save(theirs, app_rows(model, photos, mistake))
    outcome = run("audit", theirs, "--images", photos[0].parent, "--json")
    assert outcome.code == 1, outcome.stderr
    report = outcome.json
    assert report["verdict"] == "differs"
    assert re.search(MISTAKES[mistake][0], ", ".join(report["causes"]))
    assert report["precision"] == "fp32"


@pytest.mark.parametrize("precision", ["fp32", pytest.param("w8", marks=pytest.mark.slow)])
def test_what_a_bundle_embeds_is_the_same(precision: str, exports: Exports, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for file in EMOJI[:4]:
        (images / file.name).write_bytes(file.read_bytes())
    theirs = tmp_path / "theirs.safetensors"
    assert run("embed", exports.bundle("onnx", precision).path, images, "-o", theirs, "--normalise").code == 0
    outcome = run("audit", theirs, "--images", images, "--json")
    assert outcome.code == 0, outcome.stdout + outcome.stderr
    report = outcome.json
    assert (report["verdict"], report["lengths"], report["causes"]) == ("same", "1", [])
    assert (report["precision"] == "fp32") == (precision == "fp32")


def test_a_mistake_of_ids_is_named(model: mcd.MobileCLIP, tmp_path: Path) -> None:
    words, change = IDS["no end"]
    assert words in text_causes(embeddings(model, "text", change(mcd.tokenize(TEXTS))), tmp_path)


@pytest.mark.slow
def test_a_mistake_of_prompts_is_named(model: mcd.MobileCLIP, tmp_path: Path) -> None:
    words, change = PROMPTS["template left out"]
    ids = mcd.tokenize([change(text) for text in TEXTS])
    assert words in text_causes(embeddings(model, "text", ids), tmp_path)


@pytest.mark.slow
def test_capitals_that_an_app_keeps_are_named(model: mcd.MobileCLIP, tmp_path: Path) -> None:
    assert "capitals kept" in text_causes(embeddings(model, "text", cased(TEXTS)), tmp_path)


def text_causes(rows: np.ndarray, folder: Path) -> str:
    texts, theirs = folder / "texts.txt", folder / "theirs.jsonl"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    theirs.write_text("".join(json.dumps({"embedding": row.tolist()}) + "\n" for row in rows))
    outcome = run("audit", theirs, "--texts", texts, "--json")
    assert outcome.code == 1, outcome.stdout + outcome.stderr
    return " ".join(outcome.json["causes"])


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("reversed", [3, 2, 1, 0]),
        ("rows are 1 later than their inputs", [1, 2, 3, 3]),
        ("row 1 is of", [2, 0, 3, 1]),
        ("no row for 03.png", [0, 1, 2]),
    ],
)
def test_rows_in_another_order_are_named(
    words: str, order: list[int], model: mcd.MobileCLIP, photos: list[Path], tmp_path: Path
) -> None:
    rows = embeddings(model, "image", np.stack([cropped(upright(photo)) for photo in photos]))[order]
    if "later" in words:
        rows = np.concatenate([np.random.default_rng(0).normal(size=(1, 128)).astype(np.float32), rows[:-1]])
        words, order = "rows are 1 later", []
        rows[1:] = embeddings(model, "image", np.stack([cropped(upright(photo)) for photo in photos]))[:3]
    theirs = tmp_path / "theirs.npz"
    np.savez(theirs, image_embeds=rows)
    outcome = run("audit", theirs, "--images", photos[0].parent)
    assert outcome.code == 1, outcome.stderr
    assert words in outcome.stdout
    if order and len(order) == 4:
        names = tmp_path / "names.txt"
        names.write_text("\n".join(photos[index].name for index in order))
        assert run("audit", theirs, "--images", photos[0].parent, "--names", names).code == 0


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("normalised over the rows", lambda rows: rows / np.linalg.norm(rows, axis=0)),
        ("the mean of all rows subtracted", lambda rows: rows - rows.mean(axis=0)),
        ("embeddings multiplied by 100", lambda rows: rows * 100),
        ("row 2 has a NaN", lambda rows: np.where(np.arange(4)[:, None] == 1, np.nan, rows)),
        ("row 3 has only zeros", lambda rows: np.where(np.arange(4)[:, None] == 2, 0, rows)),
        ("all rows are equal", lambda rows: np.repeat(rows[:1], 4, axis=0)),
        ("64 values and the checkpoint's 128", lambda rows: rows[:, :64]),
    ],
)
def test_a_mistake_of_arithmetic_is_named(
    words: str, change: object, model: mcd.MobileCLIP, photos: list[Path], tmp_path: Path
) -> None:
    rows = embeddings(model, "image", np.stack([cropped(upright(photo)) for photo in photos]))
    np.save(tmp_path / "theirs.npy", change(rows))  # type: ignore[operator]
    outcome = run("audit", tmp_path / "theirs.npy", "--images", photos[0].parent)
    assert outcome.code == 1, outcome.stderr
    assert words in outcome.stdout


@pytest.mark.slow
def test_other_weights_have_no_usual_cause(model: mcd.MobileCLIP, photos: list[Path], tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 128))
    np.save(tmp_path / "theirs.npy", rows)
    outcome = run("audit", tmp_path / "theirs.npy", "--images", photos[0].parent, "--json")
    assert outcome.code == 1
    assert outcome.json["causes"] == []
    assert "no usual cause explains it" in outcome.json["sentence"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("theirs.npy",), "embeddings are of images or of texts"),
        (("--texts", "texts.txt"), "Missing argument"),
        (("theirs.txt", "--images", "photos"), "or embeddings (.npy,"),
        (("theirs.npy", "theirs.npz", "--images", "photos"), "which are compared alone"),
        (("absent.npy", "--images", "photos"), "there is none"),
        (("pickled.npy", "--images", "photos"), "pickled objects"),
        (("bomb.npz", "--images", "photos"), "damaged"),
        (("short.jsonl", "--images", "photos"), "different lengths"),
        (("x.onnx", "--names", "names.txt"), "leave it out for a model"),
        (("photos",), "no target runs other tools' files of this kind"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    arguments: tuple[str, ...], words: str, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos[0].parent)
    np.save("theirs.npy", np.ones((4, 128), np.float32))
    np.save("pickled.npy", np.array([{}], object), allow_pickle=True)
    Path("theirs.txt").write_text("1")
    Path("x.onnx").write_text("1")
    Path("bomb.npz").write_bytes(b"PK\x03\x04" + b"\0" * 40)
    Path("short.jsonl").write_text("[1, 2]\n[1]\n")
    outcome = run("audit", *arguments)
    assert outcome.code == 2
    assert words in outcome.stderr
