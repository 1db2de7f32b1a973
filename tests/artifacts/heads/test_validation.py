"""What a runner takes is one rule for every target; what else is given is refused in one sentence, not answered."""

from typing import Any

import numpy as np
import pytest
import torch
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.heads.validation import taken_ids, taken_pixels
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TowerName, load_variant
from mobileclip_deploy.network.samples import image_paths

BUNDLES = (
    ("onnx", "fp32"),
    ("coreml", "fp16"),
    pytest.param("executorch", "fp32", marks=pytest.mark.slow),  # a conversion of both towers
)
SIZE = load_variant("nano").preprocess.size
PIXELS: Any = load_batch(image_paths()[:2], load_variant("nano").preprocess)
PIXELS[0, 0, 0, :2] = 0, 1
IDS: Any = encode(["a photo of a cat", "a rocket"])
FLOATS = "takes floats in \\[0, 1\\]"
REFUSED: dict[str, tuple[TowerName, Any, str]] = {
    "bytes": ("image", (PIXELS * 255).astype(np.uint8), f"are uint8; .*{FLOATS}: divide bytes by 255"),
    "integers": ("image", np.zeros_like(PIXELS, dtype=np.int64), f"are int64; .*{FLOATS}"),
    "truth values": ("image", PIXELS > 0.5, f"are bool; .*{FLOATS}"),
    "to 255": ("image", PIXELS * 255, f"from 0 to 255; .*{FLOATS}: divide bytes by 255"),
    "normalised": ("image", (PIXELS - 0.5) / 0.25, f"from -2 to 2; .*{FLOATS}.* do not apply mean and std"),
    "a little over": ("image", PIXELS + np.float32(1e-3), f"to 1.001; .*{FLOATS}"),
    "one NaN": ("image", np.where(np.arange(PIXELS.size).reshape(PIXELS.shape) == 7, np.nan, PIXELS), "NaN"),
    "one infinite": ("image", np.where(np.arange(PIXELS.size).reshape(PIXELS.shape) == 7, np.inf, PIXELS), "infinite"),
    "channels last": ("image", PIXELS.transpose(0, 2, 3, 1), rf"the model takes \[N, 3, {SIZE}, {SIZE}\]"),
    "no batch": ("image", PIXELS[0], rf"the model takes \[N, 3, {SIZE}, {SIZE}\]"),
    "one channel": ("image", PIXELS[:, :1], rf"the model takes \[N, 3, {SIZE}, {SIZE}\]"),
    "no image": ("image", PIXELS[:0], r"shape \[0, .*N from 1 on"),
    "a number": ("image", 1.0, "the model takes"),
    "rows of different lengths": ("image", [[1.0], [1.0, 2.0]], "rows of one length"),
    "words": ("text", ["a photo of a cat"], r"the model takes \[N, 77\]"),
    "float ids": ("text", IDS.astype(np.float32), "are float32; a text tower takes integers"),
    "truth values as ids": ("text", IDS > 0, "are bool; a text tower takes integers"),
    "short ids": ("text", IDS[:, :20], r"the model takes \[N, 77\]"),
    "one text": ("text", IDS[0], r"the model takes \[N, 77\]"),
    "no text": ("text", IDS[:0], "N from 1 on"),
    "negative ids": ("text", IDS - 1, "from -1 to 49406; the vocabulary has 0 to 49407"),
    "ids of no word": ("text", IDS + 1, "from 1 to 49408; the vocabulary has 0 to 49407"),
}


def runner(exports: Exports, target: str, precision: str, tower: TowerName) -> Any:
    made = exports.unverified(target, precision, tower) if target == "executorch" else exports.bundle(target, precision)
    return mcd.load_runner(made, tower)


@pytest.mark.parametrize(("target", "precision"), BUNDLES)
def test_every_target_refuses_the_same_in_the_same_words(exports: Exports, target: str, precision: str) -> None:
    runners = {tower: runner(exports, target, precision, tower) for tower in ("image", "text")}
    for name, (tower, given, says) in REFUSED.items():
        with pytest.raises(InvalidInput, match=says) as refused:
            runners[tower](given)
        assert "\n" not in str(refused.value), name


@pytest.mark.parametrize(("target", "precision"), BUNDLES)
def test_every_target_takes_the_same_types(exports: Exports, target: str, precision: str) -> None:
    image, text = (runner(exports, target, precision, tower) for tower in ("image", "text"))
    wanted, words = image(PIXELS), text(IDS)
    for given in (PIXELS.astype(np.float64), PIXELS.tolist(), torch.from_numpy(PIXELS), np.asfortranarray(PIXELS)):
        np.testing.assert_array_equal(image(given), wanted)
    for kind in (np.int32, np.uint16, np.uint64):
        np.testing.assert_array_equal(text(IDS.astype(kind)), words)
    half = image(PIXELS.astype(np.float16))
    assert np.abs(half - wanted).max() <= 0.01 * np.abs(wanted).max()


@pytest.mark.parametrize(("target", "precision"), BUNDLES)
def test_pixels_between_the_levels_of_a_byte_are_taken_by_all(exports: Exports, target: str, precision: str) -> None:
    image = runner(exports, target, precision, "image")
    between = np.clip(PIXELS + np.float32(0.4 / 255), 0, 1)
    found, levels = image(between), image(PIXELS)
    if target == "coreml":  # whose input holds bytes: the nearest
        np.testing.assert_array_equal(found, levels)
    else:
        assert not np.array_equal(found, levels)


def test_rounding_beyond_the_ends_is_no_fault_and_is_kept() -> None:
    over = np.full((1, 3, 4, 4), 1 + 1e-6, np.float32)
    assert taken_pixels(over, 4) is over
    assert taken_pixels(-1e-6 * over, 4).min() < 0
    assert taken_pixels(np.full((1, 3, 4, 4), 1.001, np.float16), 4).dtype == np.float32
    ids = np.zeros((1, 77), np.int64)
    assert taken_ids(ids, (77,), 49408) is ids
