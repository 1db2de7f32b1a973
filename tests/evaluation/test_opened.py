"""A bundle that stays open answers as the functions do, for many threads, until it is closed."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from exports import Exports
from json_files import edited_json
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.targets.onnx import runner

IMAGES = models_dir() / "nano" / "evaluation" / "images"
PICTURES = [IMAGES / "1f431.png", IMAGES / "1f355.png"]
LABELS = ["cat face", "pizza", "rocket"]


@pytest.fixture
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.bundle("onnx", "fp16")


def test_it_answers_as_the_functions_do(bundle: mcd.Bundle, tmp_path: Path) -> None:
    with mcd.open_bundle(bundle.path) as opened:
        photos = opened.embed_images(PICTURES)
        assert photos.shape == (2, bundle.manifest.embed_dim)
        runner = mcd.load_runner(bundle, "text")
        np.testing.assert_allclose(opened.embed_texts(LABELS), runner(mcd.tokenize(LABELS, bundle)), atol=1e-5)
        expected = mcd.classify(bundle, PICTURES, LABELS)
        for found, one in zip(opened.classify(PICTURES, LABELS), expected, strict=True):
            assert list(found) == list(one.probabilities)
            assert found == pytest.approx(one.probabilities, abs=1e-6)
        assert opened.classify(PICTURES, LABELS, top=1)[0].keys() == {"cat face"}
        mcd.embed(opened, PICTURES, tmp_path / "a.mcdx")
        assert opened.search(tmp_path / "a.mcdx", "a pizza", top=1).answers[0].matches[0].id.endswith("1f355.png")
        assert [(test.tower, test.passed, test.inputs) for test in opened.self_test()] == [
            ("image", True, 2),
            ("text", True, 2),
        ]


def test_pictures_come_as_files_contents_images_and_arrays(bundle: mcd.Bundle) -> None:
    path = PICTURES[0]
    with Image.open(path) as image, mcd.open_bundle(bundle) as opened:
        upright = image.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        white.alpha_composite(upright)
        forms: list[Any] = [path, path.read_bytes(), image, np.asarray(white.convert("RGB"))]
        rows = np.concatenate([opened.embed_images(form) for form in forms])
        with pytest.raises(InvalidInput, match="image 0: not an image of a known format"):
            opened.embed_images(b"no picture")
    assert np.abs(rows - rows[0]).max() == 0


def test_many_threads_use_it_at_once(bundle: mcd.Bundle) -> None:
    with mcd.open_bundle(bundle) as opened:
        expected = opened.classify(PICTURES, LABELS)
        contents = [path.read_bytes() for path in PICTURES]

        def call(number: int) -> bool:
            own = LABELS if number % 2 else [*LABELS, f"label {number}"]
            found = opened.classify(contents, own, top=3 if number % 2 else None)
            return number % 2 == 0 or found == expected

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(call, range(64)))


def test_a_changed_artifact_fails_its_self_test(bundle: mcd.Bundle) -> None:
    opened = mcd.open_bundle(bundle)
    opened.runner("image")
    real = opened._runners["image"]
    opened._runners["image"] = lambda pixels: real(pixels[::-1].copy())  # type: ignore[assignment]
    assert [test.passed for test in opened.self_test()] == [False, True]


def test_answers_of_another_shape_fail_the_self_test(bundle: mcd.Bundle) -> None:
    opened = mcd.open_bundle(bundle)
    real = opened.runner("image")
    opened._runners["image"] = lambda pixels: real(pixels)[:, 1:]  # type: ignore[assignment]
    image, text = opened.self_test()
    assert (image.passed, image.relative, text.passed) == (False, math.inf, True)


def test_each_tower_is_loaded_once(bundle: mcd.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = mock.Mock(side_effect=runner.open_session)
    monkeypatch.setattr(runner, "open_session", loaded)
    with mcd.open_bundle(bundle) as opened:
        for _ in range(2):
            opened.classify(PICTURES, LABELS)
            opened.embed_texts(LABELS)
            mcd.classify(opened, PICTURES, LABELS)
    assert loaded.call_count == 2


def test_a_closed_or_damaged_bundle_is_refused(bundle: mcd.Bundle, tmp_path: Path) -> None:
    opened = mcd.open_bundle(bundle)
    opened.close()
    with pytest.raises(UsageError, match="was closed; open it again"):
        opened.embed_images(PICTURES)
    (tmp_path / "manifest.json").write_bytes((bundle.path / "manifest.json").read_bytes())
    with edited_json(tmp_path / "manifest.json") as manifest:
        manifest["embed_dim"] = 0
    with pytest.raises(InvalidInput):
        mcd.open_bundle(tmp_path)


def test_wrong_uses_are_refused_in_one_sentence(bundle: mcd.Bundle) -> None:
    opened = mcd.open_bundle(bundle)
    for wrong in (
        lambda: opened.classify(PICTURES),
        lambda: opened.classify(PICTURES, ["one"]),
        lambda: opened.classify(PICTURES, LABELS, "no braces"),
        lambda: opened.classify(PICTURES, LABELS, top=0),
        lambda: opened.embed_texts([]),
        lambda: opened.embed_images(io.BytesIO()),  # type: ignore[arg-type]
    ):
        with pytest.raises(mcd.MobileClipDeployError) as caught:
            wrong()
        assert "\n" not in str(caught.value)
