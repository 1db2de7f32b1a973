"""Immich's machine learning service: a bundle of its layout, loaded as that service loads a model.

The loader below was written from immich-app/immich, machine-learning/immich_ml, at commit
042e5d5bda11f667d8832400db01eb8dfa84163c: models/base.py (folders and names), models/clip/visual.py and textual.py
(which keys of which files), models/transforms.py (how pictures are resized, cropped and scaled), sessions/ort.py
(options). Its tokenizer is the package `tokenizers`.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from exports import Exports
from PIL import Image
from tokenizers import Tokenizer

import mobileclip_deploy as mcd
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.samples import image_paths, prompts

pytestmark = pytest.mark.slow  # test_layouts.py has its names, test_picquery.py an app of ONNX

Floats = npt.NDArray[np.float32]


class Immich:
    """What the service does with a folder of its model cache."""

    def __init__(self, folder: Path) -> None:
        self.text_settings = json.loads((folder / "config.json").read_text())["text_cfg"]
        self.visual, self.textual = (self._session(folder / name / "model.onnx") for name in ("visual", "textual"))
        self.settings = json.loads((folder / "visual" / "preprocess_cfg.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "textual" / "tokenizer.json"))
        padding = json.loads((folder / "textual" / "tokenizer_config.json").read_text())["pad_token"]
        length = self.text_settings.get("context_length", 77)
        self.tokenizer.enable_padding(length=length, pad_token=padding, pad_id=self.tokenizer.token_to_id(padding))
        self.tokenizer.enable_truncation(max_length=length)

    def _session(self, path: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.intra_op_num_threads, options.inter_op_num_threads = 2, 1
        options.add_free_dimension_override_by_name("batch", 1)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def box(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size after scaling, and where the crop begins."""
        side = self.settings["size"][0]
        scaled = (side, int(height / width * side)) if width < height else (int(width / height * side), side)
        return scaled, (int(scaled[0] / 2 - side / 2), int(scaled[1] / 2 - side / 2))

    def image(self, path: Path) -> Floats:
        assert self.settings["resize_mode"] == "shortest"
        assert self.visual.get_inputs()[0].type != "tensor(uint8)"  # else it would leave scaling to the graph
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        side = self.settings["size"][0]
        scaled, (left, upper) = self.box(*picture.size)
        picture = picture.resize(scaled, Image.Resampling[self.settings["interpolation"].upper()])
        pixels = np.asarray(picture.crop((left, upper, left + side, upper + side)), dtype=np.float32) / 255.0
        mean, std = (np.array(self.settings[name], dtype=np.float32) for name in ("mean", "std"))
        pixels = pixels * (1.0 / std) - mean / std
        return np.asarray(self.visual.run(None, {"image": pixels.transpose(2, 0, 1)[None]})[0][0])

    def text(self, text: str) -> Floats:
        ids = self.tokenizer.encode(" ".join(text.split())).ids
        return np.asarray(self.textual.run(None, {"text": np.array([ids], dtype=np.int32)})[0][0])


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("immich", verify=False)


@pytest.fixture(scope="module")
def immich(bundle: mcd.Bundle) -> Immich:
    return Immich(bundle.path)


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    return mcd.load_model()


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def test_pictures_have_the_checkpoint_s_embeddings_at_length_1(immich: Immich, model: mcd.MobileCLIP) -> None:
    spec = model.variant.preprocess
    wanted = unit(embed_images(model, mcd.preprocess(image_paths(), model)))
    moved = 0
    for path, row in zip(image_paths(), wanted, strict=True):
        found = immich.image(path)
        with Image.open(path) as opened:
            scaled, (left, upper) = immich.box(*opened.size)
        assert abs(np.linalg.norm(found) - 1) < 1e-5
        if (left, upper) == tuple(round((side - spec.size) / 2) for side in scaled):
            assert np.abs(found - row).max() < 1e-5, path.name
        else:  # of an odd number of columns left over the app leaves the larger half right, torchvision the even one
            moved += 1
            assert found @ row > 0.9, path.name
    assert moved == 3


def test_texts_have_the_checkpoint_s_embeddings_at_length_1(immich: Immich, model: mcd.MobileCLIP) -> None:
    texts = [*prompts(), "", "crème brûlée à la façade d'un château", "собака и 猫", "DOG!", "cat " * 100]
    wanted = unit(embed_texts(model, encode(texts, model.variant.tokens)))
    for text, row in zip(texts, wanted, strict=True):
        assert np.abs(immich.text(text) - row).max() < 1e-5, text


def test_the_manifest_alone_says_how_it_is_read(bundle: mcd.Bundle, model: mcd.MobileCLIP) -> None:
    manifest = bundle.manifest
    assert (manifest.target, manifest.layout and manifest.layout.name) == ("onnx", "immich")
    image, text = manifest.towers["image"], manifest.towers["text"]
    assert (image.file, image.input.name, image.input.dtype) == ("visual/model.onnx", "image", "float32")
    assert (text.file, text.input.name, text.input.dtype) == ("textual/model.onnx", "text", "int32")
    assert (image.output.name, image.output.normalised, text.output.normalised) == ("embedding", True, True)
    report = mcd.verify(bundle, thorough=False)
    passed = {check.step for check in report.checks if check.status == "passed"}
    assert not report.failed
    assert passed >= {"settings", "companions", "golden", "structure", "tower", "shipped", "weights"}
