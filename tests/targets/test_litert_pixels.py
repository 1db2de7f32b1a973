"""LiteRT's image input as a bitmap has it: bytes with channels last, the same answers and one operator less to turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import run
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.towers.samples import image_paths

pytestmark = pytest.mark.whole  # test_conformance.py runs a file that takes floats


@pytest.fixture(scope="module")
def bitmap(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bitmap")
    words = ["--target", "litert", "--tower", "image", "--precision", "w8", "--nhwc-bytes", "--no-verify", "-o", folder]
    assert run("export", "--checkpoint", exports.checkpoint, *words).code == 0
    return Bundle.open(folder / "nano-litert-w8")


@pytest.mark.whole
def test_every_check_passes_and_the_manifest_says_what_it_takes(exports: Exports, bitmap: Bundle) -> None:
    entry = bitmap.manifest.towers["image"].input
    assert (entry.dtype, entry.shape, entry.range, entry.colour) == ("uint8", (1, 64, 64, 3), (0.0, 255.0), "RGB")
    assert bitmap.manifest.options == {"nhwc_bytes": "on"}
    report = mcd.verify(bitmap, checkpoint=exports.checkpoint)
    assert [check for check in report.checks if check.status != "passed"] == []
    assert {"graph", "weights", "shipped", "reproduced"} <= {check.step for check in report.checks}


def test_the_runtime_takes_a_bitmap_s_bytes_and_gives_the_same(exports: Exports, bitmap: Bundle) -> None:
    from ai_edge_litert.interpreter import Interpreter

    pixels = mcd.preprocess(image_paths()[:4], bitmap)  # [4, 3, 64, 64]
    wanted = mcd.load_runner(exports.unverified("litert", "w8", "image"), "image")(pixels)
    assert np.array_equal(mcd.load_runner(bitmap, "image")(pixels), wanted)
    interpreter = Interpreter(str(bitmap.artifact("image")))
    interpreter.allocate_tensors()
    taken = interpreter.get_signature_runner("serving_default")
    for row, answer in zip(np.rint(pixels * 255).astype(np.uint8), wanted, strict=True):
        bytes_of_a_bitmap = np.ascontiguousarray(row.transpose(1, 2, 0))[None]
        found = taken(image=bytes_of_a_bitmap)["embedding"][0]
        assert np.linalg.norm(found - answer) < 1e-5 * np.linalg.norm(answer)


def test_it_costs_no_operator_but_two_for_the_one_that_turned_floats(exports: Exports, bitmap: Bundle) -> None:
    before, after = (
        get_target("litert").open(one.artifact("image")).operators
        for one in (exports.unverified("litert", "w8", "image"), bitmap)
    )
    assert after["TRANSPOSE"] == before["TRANSPOSE"] - 1
    assert sum(after.values()) == sum(before.values()) + 1


def test_channels_in_another_order_are_seen(bitmap: Bundle, tmp_path: Path) -> None:
    """A file whose input is taken as floats are, three planes in a row, gives other embeddings."""
    pixels = mcd.preprocess(image_paths()[:2], bitmap)
    runner = mcd.load_runner(bitmap, "image")
    planes = pixels.reshape(2, 64, 64, 3).transpose(0, 3, 1, 2)  # the same bytes, taken in the wrong order
    right, wrong = runner(pixels), runner(planes)
    cosine = (right * wrong).sum(1) / np.linalg.norm(right, axis=1) / np.linalg.norm(wrong, axis=1)
    assert cosine.max() < 0.9
