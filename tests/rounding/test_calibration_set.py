"""What rounding is learned on: enough of it, each once, and nothing that it will be judged by."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal, run
from PIL import Image

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.network.model.variants import load_variant, models_dir
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.rounding.calibration_set import read_calibration_set

NANO = load_variant("nano")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """128 pictures and 500 captions."""
    folder = tmp_path / "mine"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (128, 4, 4, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number:03d}.png")
    (folder / "prompts.txt").write_text("\n".join(f"thing {number}" for number in range(500)), encoding="utf-8")
    return folder


def test_a_tenth_is_held_back(folder: Path) -> None:
    data = read_calibration_set(folder, NANO, ("image", "text"), None)
    assert (len(data.pixels), len(data.ids)) == (128, 500)
    assert (len(data.learned("image")), len(data.held_back("image"))) == (115, 13)
    assert (len(data.learned("text")), len(data.held_back("text"))) == (450, 50)
    assert data.notes == (f"{folder} holds 128 pictures: rounding is learned better from 256 and more.",)
    assert len(read_calibration_set(folder, NANO, ("text",), None).pixels) == 0


def test_captions_may_stand_in_pairs(folder: Path) -> None:
    (folder / "prompts.txt").unlink()
    rows = [{"image": f"{n % 128:03d}.png", "text": f"thing {n}", "captions": [f"a {n}"]} for n in range(250)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert len(read_calibration_set(folder, NANO, ("text",), None).ids) == 500


def test_too_little_is_refused(folder: Path) -> None:
    (folder / "000.png").unlink()
    with pytest.raises(InvalidInput, match="holds 127 pictures; learned rounding needs 128 at least"):
        read_calibration_set(folder, NANO, ("image",), None)
    (folder / "prompts.txt").write_text("\n".join(f"thing {number % 499}" for number in range(600)))
    with pytest.raises(InvalidInput, match="has 499 different captions"):
        read_calibration_set(folder, NANO, ("text",), None)
    with pytest.raises(UsageError, match="no such folder"):
        read_calibration_set(folder / "nowhere", NANO, ("text",), None)


def test_pictures_that_repeat_count_once(folder: Path) -> None:
    shutil.copy(folder / "000.png", folder / "again.png")
    with Image.open(folder / "001.png") as image:
        image.save(folder / "other.bmp")  # another file of the same pixels
    data = read_calibration_set(folder, NANO, ("image",), None)
    assert len(data.pixels) == 128
    assert data.notes[0] == f"{folder}: 2 pictures repeat others; each counts once."
    (folder / "002.png").unlink()
    with pytest.raises(InvalidInput, match="holds 127 different pictures in 129 files"):
        read_calibration_set(folder, NANO, ("image",), None)


def test_pictures_that_the_gates_look_at_are_refused(folder: Path) -> None:
    dataset = builtin_dataset()
    with Image.open(str(dataset.images[7])) as image:
        white = Image.new("RGBA", image.size, "white")
        Image.alpha_composite(white, image.convert("RGBA")).convert("RGB").save(folder / "mine.png")  # written anew
    with pytest.raises(InvalidInput, match=r"mine\.png is the picture .*, which the gates measure on"):
        read_calibration_set(folder, NANO, ("image",), dataset)
    shutil.copy(image_paths()[0], folder / "mine.jpg")
    with pytest.raises(InvalidInput, match=r"mine\.jpg is the picture"):
        read_calibration_set(folder, NANO, ("image",), None)


def test_captions_that_the_gates_look_at_are_left_out(folder: Path) -> None:
    dataset = builtin_dataset()
    texts = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    asked = [prompts()[0], dataset.captions[3], dataset.templates[0].replace("{}", dataset.classes[0])]
    (folder / "prompts.txt").write_text("\n".join([*texts, *asked]), encoding="utf-8")
    data = read_calibration_set(folder, NANO, ("text",), dataset)
    assert len(data.ids) == 500
    assert data.notes == (f"{folder}: 3 captions are left out: duplicates, or captions of the gates.",)


def test_nanos_own_set_can_be_learned_from() -> None:
    data = read_calibration_set(models_dir() / "nano" / "calibration", NANO, ("image", "text"), None)
    assert (len(data.pixels), len(data.ids), data.notes) == (384, 1024, ())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--precision", "w8"], "name their folder with --calibration"),
        (["--precision", "fp16", "--calibration", "."], "fp16: rounding is learned for w8, w8a8, w8a16, w6p, w4p, w4"),
        (["--precision", "smallest", "--calibration", "."], "searches with rounding to the nearest"),
        (["--precision", "w8", "--calibration", ".", "--labels", "a,b"], "for towers, not for classifiers"),
        (["--precision", "w8", "--calibration", "nowhere"], "--calibration nowhere: no such folder"),
        (["--precision", "image=fp16,text=w4-table-w8", "--calibration", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_learned_is_refused(arguments: list[str], says: str, tmp_path: Path) -> None:
    asked = ["--target", "onnx", "--rounding", "gptq", *arguments, "-o", str(tmp_path / "out")]
    assert says in refusal(run("export", *asked))
    assert not (tmp_path / "out").exists()
