"""What a runner takes can be made of files, opened images, arrays and texts; what cannot be used is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import MobileClipDeployError
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.network.samples import image_paths

NANO = load_variant("nano")
MEAN = NANO.model_copy(
    update={"preprocess": NANO.preprocess.model_copy(update={"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)})}
)


def test_an_image_gives_the_same_as_a_file_opened_and_as_bytes() -> None:
    files = image_paths()[:2]
    wanted = load_batch(files, NANO.preprocess)
    opened = [Image.open(file).convert("RGB") for file in files]
    for given in (files, map(str, files), opened, [np.asarray(image) for image in opened]):
        assert np.array_equal(mcd.preprocess(given, "nano"), wanted)
    assert np.array_equal(mcd.preprocess(files[0], "nano"), wanted[:1])
    assert np.array_equal(mcd.preprocess(np.asarray(opened[1]), "Nano"), wanted[1:])
    assert wanted.dtype == np.float32


def test_an_opened_image_is_turned_upright_as_a_file_is_and_stays_as_it_was(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 30, 3))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(mcd.preprocess(opened, "nano"), mcd.preprocess(tmp_path / "turned.png", "nano"))
        assert opened.size == (30, 40)


def test_size_and_length_are_those_of_what_is_to_run() -> None:
    file = image_paths()[0]
    model = build_model(NANO.with_image_size(96))
    assert mcd.preprocess(file, model).shape == (1, 3, 96, 96)
    assert mcd.preprocess(file, mcd.load_runner(model, "image")).shape == (1, 3, 96, 96)
    assert mcd.preprocess(file, "mobileclip_s0").shape == (1, 3, 256, 256)
    assert np.array_equal(mcd.tokenize("a cat"), mcd.tokenize(("a cat",), "mobileclip2_b"))
    assert mcd.tokenize(["a cat", "a dog"], model).shape == (2, 77)


@torch.no_grad()
def test_a_checkpoint_runs_as_a_bundle_does_with_mean_and_std_inside() -> None:
    torch.manual_seed(0)
    model = build_model(MEAN)
    pixels, ids = mcd.preprocess(image_paths()[0], model), mcd.tokenize("a cat", model)
    wanted = model.encode_image(normalize(torch.from_numpy(pixels), MEAN.preprocess)).numpy()
    assert np.array_equal(mcd.load_runner(model, "image")(pixels), wanted)
    assert np.array_equal(mcd.load_runner(model, "text")(ids), model.encode_text(torch.from_numpy(ids)).numpy())
    assert np.array_equal(mcd.load_runner(model, "text")(torch.from_numpy(ids)), mcd.load_runner(model, "text")(ids))


CAT = image_paths()[0]
FLOAT: Any = np.float64
REFUSED: dict[str, tuple[Any, str]] = {
    "no image": (lambda: mcd.preprocess([], "nano"), "no images were given"),
    "a folder": (lambda: mcd.preprocess(CAT.parent, "nano"), "a folder, not an image file"),
    "a tensor": (
        lambda: mcd.preprocess(torch.zeros(2, 3, 4, 4), "nano"),
        "image 0 is Tensor; give files",
    ),
    "floats": (
        lambda: mcd.preprocess([np.zeros((4, 4, 3), FLOAT)], "nano"),
        r"image 0 is an array of float64 \[4, 4, 3\]",
    ),
    "channels first": (lambda: mcd.preprocess(np.zeros((3, 4, 4), np.uint8), "nano"), r"uint8 \[3, 4, 4\]; give"),
    "no pixels": (lambda: mcd.preprocess(np.zeros((0, 4, 3), np.uint8), "nano"), r"uint8 \[0, 4, 3\]; give"),
    "no such file": (lambda: mcd.preprocess(["nowhere.png"], "nano"), "nowhere.png: no such file"),
    "no such variant": (lambda: mcd.preprocess(CAT, "nanoo"), "unknown variant 'nanoo', did you mean nano"),
    "no such bundle": (lambda: mcd.preprocess(CAT, "out/nano"), "out/nano is not a bundle"),
    "no text": (lambda: mcd.tokenize([]), "no texts were given"),
    "a text that is none": (lambda: mcd.tokenize(["a", 3]), "prompt 1 is int"),  # type: ignore[list-item]
    "bytes": (lambda: mcd.tokenize(b"a"), "prompt 0 is int"),  # type: ignore[arg-type]
    "an array to a model": (lambda: build_model(NANO).encode_image(np.zeros(3)), "ndarray instead of a torch tensor"),  # type: ignore[arg-type]
    "one image to a model": (lambda: build_model(NANO).encode_image(torch.zeros(3, 64, 64)), r"a tensor \[3, 64, 64\]"),
    "a list to a model": (lambda: build_model(NANO).encode_text([[1]]), "list instead of"),  # type: ignore[arg-type]
    "another tower": (
        lambda: mcd.load_runner(build_model(NANO), "both"),
        "`tower` takes 'image' or 'text', not 'both'",
    ),  # type: ignore[arg-type]
    "a tower that is not there": (
        lambda: mcd.load_runner(build_model(NANO, towers=("text",)), "image"),
        "has no image",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_named(case: str) -> None:
    call, says = REFUSED[case]
    with pytest.raises(MobileClipDeployError, match=says) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert "--" not in str(refused.value)
