"""PicQuery since April 2026: a bundle of its layout for .tflite files, loaded as the app loads them.

Written from greyovo/PicQuery at commit 3d967871e57aa76c4297804cc838eac01c9badfb, app/src/main: its AppModules.kt takes
`modulesTF`, and so feature/tf. Assets image_model.tflite and text_model.tflite in TensorFlow Lite's interpreter, the
first input and the first output whatever they are called; pictures from PreprocessorMobileCLIPv2.kt, floats [1, 3, S,
S] of bytes / 255, channels first; ids int32 or int64 [1, 77] from BPETokenizer.kt, padded with 0; an output of any
shape that is float32 and wholly known. assets/mobileclip2_tflite_metadata.json says that outputs have length 1. The
app stretches pictures by Android's Bitmap, which is not here: pictures have the tower's size.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from exports import Exports
from litert_files import require_litert

import mobileclip_deploy as mcd
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.samples import image_paths, prompts

require_litert()
pytestmark = pytest.mark.slow  # of layouts; test_picquery.py reads the other module's files


class App:
    """One of the app's sessions."""

    def __init__(self, file: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(file), num_threads=1)
        self.interpreter.allocate_tensors()
        (self.source,), (self.result,) = self.interpreter.get_input_details(), self.interpreter.get_output_details()

    def run(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        self.interpreter.set_tensor(self.source["index"], values)
        self.interpreter.invoke()
        return np.array(self.interpreter.get_tensor(self.result["index"]))[0]


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("picquery-tflite", verify=False)


def test_the_app_finds_the_files_shapes_and_types_that_it_asks_for(bundle: mcd.Bundle) -> None:
    image, text = App(bundle.path / "image_model.tflite"), App(bundle.path / "text_model.tflite")
    assert (list(image.source["shape"]), image.source["dtype"]) == ([1, 3, 64, 64], np.float32)
    assert (list(text.source["shape"]), text.source["dtype"]) == ([1, 77], np.int32)
    for one in (image, text):
        assert (list(one.result["shape"]), one.result["dtype"]) == ([1, 128], np.float32)


def test_pictures_and_texts_have_the_checkpoint_s_embeddings_at_length_1(bundle: mcd.Bundle) -> None:
    model = mcd.load_model()
    pixels, ids = mcd.preprocess(image_paths(), model), mcd.tokenize(prompts())
    image, text = App(bundle.path / "image_model.tflite"), App(bundle.path / "text_model.tflite")
    rows = [np.round(one * 255).astype(np.uint8).astype(np.float32) / 255 for one in pixels]  # the app has bytes
    found = {
        "image": np.stack([image.run(one[None]) for one in rows]),
        "text": np.stack([text.run(one[None].astype(np.int32)) for one in ids]),
    }
    for tower, wanted in (("image", embed_images(model, np.stack(rows))), ("text", embed_texts(model, ids))):
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.linalg.norm(found[tower] - unit, axis=1).max() < 1e-5
