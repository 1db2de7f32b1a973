"""rclip and ente's mobile app: bundles of their layouts, loaded as these apps load their models.

The loaders were written from yurijmikhalevich/rclip at 2a23e2b7defc4e15cc7ed86bb043e139ce7cd102 (rclip/model.py,
rclip/utils/preprocess.py) and ente-io/ente at a621d733154a834f23754e7e874de769be532d9d (rust/crates/photos/src/ml:
onnx.rs takes the first input and output of a file, preprocess.rs resizes with an antialiased bilinear filter). Both
apps know 256 pixels and 512 numbers; the loaders take the sizes of a small network.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from exports import rehash
from onnx import numpy_helper
from PIL import Image
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.samples import image_paths, prompts

Floats = npt.NDArray[np.float32]
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with known(tmp_path_factory.mktemp("small")) as path:
        yield path


def any_size(name: str, folder: Path, **changes: Any) -> Path:
    """The layout, for networks of any size."""
    file = folder / "mine.json"
    content = mcd.read_layout(name).as_dict() | {"name": "mine", "needs": {}} | changes
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def export(name: str, checkpoint: Path, folder: Path, precision: str = "fp32") -> mcd.Bundle:
    model = mcd.load_model(WORDS, checkpoint)
    return mcd.export(model, None, precision, folder, layout=any_size(name, folder), verify=False)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> mcd.Bundle:
    return export("rclip", checkpoint, tmp_path_factory.mktemp("rclip"))


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def rclip_image(path: Path, size: int) -> Floats:
    """`preprocess` of rclip, at another size and the variant's filter."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    scaled = (size, int(height * size / width)) if width < height else (int(width * size / height), size)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    pixels = np.array(image.crop((left, top, left + size, top + size)), dtype=np.float32) / 255.0
    return np.asarray(((pixels - MEAN) / STD).transpose(2, 0, 1))


def unit(values: npt.ArrayLike) -> Floats:
    rows = np.asarray(values, np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


@pytest.mark.slow
def test_rclip_s_pixels_and_tokens_give_the_checkpoint_s_embeddings(bundle: mcd.Bundle, checkpoint: Path) -> None:
    model, size = mcd.load_model(WORDS, checkpoint), bundle.manifest.preprocess.size
    pictures = image_paths()[:4]
    batch = np.stack([rclip_image(path, size) for path in pictures])
    (found,) = session(bundle.path / "visual.onnx").run(None, {"input": batch})
    wanted = embed_images(model, mcd.preprocess(pictures, model))
    assert (unit(found) * unit(wanted)).sum(axis=1).min() > 0.9999
    ids = mcd.tokenize(list(prompts()[:4]), bundle)
    (found,) = session(bundle.path / "textual.onnx").run(None, {"input": ids})
    assert np.abs(unit(found) - unit(embed_texts(model, ids))).max() < 1e-5


@pytest.mark.slow
def test_two_nodes_in_front_undo_the_normalisation_and_the_manifest_has_its_range(bundle: mcd.Bundle) -> None:
    graph = onnx.load(bundle.path / "visual.onnx").graph
    assert [node.op_type for node in graph.node[:2]] == ["Mul", "Add"]
    assert bundle.manifest.towers["image"].input.range == pytest.approx((-1.79226, 2.14590), abs=1e-4)
    size = bundle.manifest.preprocess.size
    pixels = np.full((1, 3, size, size), 0.5, np.float32)
    (found,) = session(bundle.path / "visual.onnx").run(
        None, {"input": ((pixels - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)}
    )
    assert np.allclose(mcd.load_runner(bundle, "image")(pixels), found, atol=1e-6)  # which takes [0, 1] as always


def change_metadata(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "applied")
    entry.value = entry.value.replace("0.4578275", "0.5578275")


def change_shift(model: onnx.ModelProto) -> None:
    shift = next(item for item in model.graph.initializer if item.name == "pixels_mean")
    values = numpy_helper.to_array(shift).copy()
    values[0, 1] += 0.1
    shift.CopyFrom(numpy_helper.from_array(values, shift.name))


def change_both(model: onnx.ModelProto) -> None:
    change_metadata(model)
    change_shift(model)


@pytest.mark.slow
def test_verify_passes_it_and_fails_another_mean_in_the_file(
    bundle: mcd.Bundle, checkpoint: Path, tmp_path: Path
) -> None:
    assert not mcd.verify(bundle, checkpoint=checkpoint).failed
    file, manifest = bundle.path / "visual.onnx", bundle.path / "manifest.json"
    sound = file.read_bytes(), manifest.read_bytes()
    for change in (change_metadata, change_shift, change_both):
        model = onnx.load_from_string(sound[0])
        change(model)
        file.write_bytes(model.SerializeToString())
        rehash(bundle.path)
        assert mcd.verify(mcd.Bundle.open(bundle.path), checkpoint=checkpoint, thorough=False).failed, change.__name__
    file.write_bytes(sound[0])
    manifest.write_bytes(sound[1])


@pytest.mark.slow
def test_another_precision_undoes_it_too(checkpoint: Path, tmp_path: Path) -> None:
    assert not mcd.verify(export("rclip", checkpoint, tmp_path, "w8"), checkpoint=checkpoint).failed


@pytest.mark.slow
def test_ente_s_mobile_app_takes_the_first_input_and_output(checkpoint: Path, tmp_path: Path) -> None:
    bundle, model = export("ente-mobile", checkpoint, tmp_path), mcd.load_model(WORDS, checkpoint)
    image, text = (
        session(bundle.path / name) for name in ("mobileclip_s2_image.onnx", "mobileclip_s2_text_opset18_quant.onnx")
    )
    pixels, ids = mcd.preprocess(image_paths()[:1], model), mcd.tokenize(["a photo of a cat"], bundle)
    for loaded, given, dtype, wanted in (
        (image, pixels, "tensor(float)", embed_images(model, pixels)),
        (text, ids.astype(np.int32), "tensor(int32)", embed_texts(model, ids)),
    ):
        (source,) = loaded.get_inputs()
        assert source.type == dtype
        found = loaded.run(None, {source.name: given})[0]
        assert np.abs(unit(found) - unit(wanted)).max() < 1e-5


@pytest.mark.parametrize("name", ["rclip", "ente-mobile"])
def test_another_size_than_the_app_s_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"the layout {name} needs image_size 256; nano has 64"):
        mcd.export(mcd.load_model(), output=tmp_path, layout=name)


def test_a_normalisation_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    image = mcd.read_layout("rclip").as_dict()["image"]
    for applied, said in (
        ({"mean": [0, 0, 0], "std": [0, 1, 1]}, "image.input.applied.std"),
        ({"mean": [0, 2, 0], "std": [1, 1, 1]}, "image.input.applied.mean"),
        ({"mean": [0, 0], "std": [1, 1, 1]}, "image.input.applied.mean"),
    ):
        changed = image | {"input": image["input"] | {"applied": applied}}
        with pytest.raises(InvalidInput, match=said):
            mcd.read_layout(any_size("rclip", tmp_path, image=changed))
    text = mcd.read_layout("rclip").as_dict()["text"]
    changed = text | {"input": text["input"] | {"applied": image["input"]["applied"]}}
    with pytest.raises(InvalidInput, match="`applied` is for an image input of pixels; text sets it"):
        mcd.read_layout(any_size("rclip", tmp_path, text=changed))
