"""LiteRT's image input as a bitmap has it: bytes with channels last, the same answers and one operator less to turn."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.network.samples import image_paths

pytestmark = pytest.mark.slow  # test_conformance.py runs a file that takes floats


@dataclass(frozen=True)
class Pair:
    """A small network's image tower that takes a bitmap, and the same that takes floats."""

    checkpoint: Path
    bitmap: Bundle
    floats: Bundle


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("bitmap")
    with known(folder) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        words = ["--target", "litert", "--tower", "image", "--precision", "w8", "--nhwc-bytes", "--no-verify"]
        assert run("export", "--checkpoint", checkpoint, "--variant", WORDS, *words, "-o", folder / "bytes").code == 0
        floats = mcd.export(model, "litert", "w8", folder / "floats", tower="image", verify=False)
        yield Pair(checkpoint, Bundle.open(folder / "bytes" / f"{WORDS}-litert-w8"), floats)


def test_every_check_passes_and_the_manifest_says_what_it_takes(pair: Pair) -> None:
    entry = pair.bitmap.manifest.towers["image"].input
    assert (entry.dtype, entry.shape, entry.range, entry.colour) == ("uint8", (1, 64, 64, 3), (0.0, 255.0), "RGB")
    assert pair.bitmap.manifest.options == {"nhwc_bytes": "on"}
    report = mcd.verify(pair.bitmap, checkpoint=pair.checkpoint)
    assert [check for check in report.checks if check.status != "passed"] == []
    assert {"graph", "weights", "shipped", "reproduced"} <= {check.step for check in report.checks}


def test_the_runtime_takes_a_bitmap_s_bytes_and_gives_the_same(pair: Pair) -> None:
    from ai_edge_litert.interpreter import Interpreter

    pixels = mcd.preprocess(image_paths()[:4], pair.bitmap)  # [4, 3, 64, 64]
    wanted = mcd.load_runner(pair.floats, "image")(pixels)
    assert np.array_equal(mcd.load_runner(pair.bitmap, "image")(pixels), wanted)
    interpreter = Interpreter(str(pair.bitmap.artifact("image")))
    interpreter.allocate_tensors()
    taken = interpreter.get_signature_runner("serving_default")
    for row, answer in zip(np.rint(pixels * 255).astype(np.uint8), wanted, strict=True):
        bytes_of_a_bitmap = np.ascontiguousarray(row.transpose(1, 2, 0))[None]
        found = taken(image=bytes_of_a_bitmap)["embedding"][0]
        assert np.linalg.norm(found - answer) < 1e-5 * np.linalg.norm(answer)
