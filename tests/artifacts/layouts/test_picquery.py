"""PicQuery: a bundle of its layout, loaded as its MobileCLIP module loads its two files.

Written from greyovo/PicQuery at commit 673755871a4f98b9a9df3976ff6ebc56386252e9, feature/ImageEncoderONNX.kt,
feature/TextEncoderONNX.kt and feature/mobileclip: files vision_model.ort and text_model.ort in ONNX Runtime's own
format, the first input whatever it is called, floats [N, 3, S, S] in [0, 1], ids as int64 [1, 77] padded with 0, the
first output. The app stretches pictures by Android's Bitmap, which is not here: pictures have the tower's size.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.targets.onnx.ort_file import OrtFile
from mobileclip_deploy.targets.values import Expected


def encode(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ORT")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: values})[0])


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("picquery", verify=False)


def test_pictures_and_texts_have_the_checkpoint_s_embeddings(bundle: mcd.Bundle) -> None:
    model = mcd.load_model()
    pixels, ids = mcd.preprocess(image_paths(), model), mcd.tokenize(prompts())
    image = encode(bundle.path / "vision_model.ort", pixels)
    text = np.concatenate([encode(bundle.path / "text_model.ort", row[None].astype(np.int64)) for row in ids])
    for found, wanted in ((image, embed_images(model, pixels)), (text, embed_texts(model, ids))):
        assert np.linalg.norm(found - wanted, axis=1).max() / np.linalg.norm(wanted, axis=1).min() < 1e-5


def test_the_ort_files_stand_in_the_manifest_with_their_hashes(bundle: mcd.Bundle) -> None:
    for tower, stem in (("image", "vision_model"), ("text", "text_model")):
        entry = bundle.manifest.towers[tower]
        assert (entry.file, entry.attachments["ort"].file) == (f"{stem}.onnx", f"{stem}.ort")
    assert bundle.manifest.options == {"ort": "on"}


def test_an_ort_file_that_answers_otherwise_is_refused(bundle: mcd.Bundle, tmp_path: Path) -> None:
    copied = Path(shutil.copy(bundle.artifact("text"), tmp_path))
    ids = mcd.tokenize(["a cat"])
    with pytest.raises(ExportError, match=r"text_model.ort gives other answers: a value differs by"):
        OrtFile(copied.with_suffix(".ort")).write(copied, Expected(ids, np.zeros((1, 128), np.float32), 1e-3))
