"""What stands in front of a tower that takes pictures of any size, against Pillow: pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import pytest
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.plan import ExportRequest, choose
from mobileclip_deploy.layouts import read_layout
from mobileclip_deploy.model.preprocessing import load_image, preprocess
from mobileclip_deploy.model.variants import Preprocess
from mobileclip_deploy.targets import targets
from mobileclip_deploy.targets.onnx.pictures import take_pictures
from mobileclip_deploy.towers.samples import image_paths
from mobileclip_deploy.verify.pictures import SIZES


def front(spec: Preprocess) -> onnxruntime.InferenceSession:
    """The part in front of a tower that gives back the pixels that it is given."""
    shape, kind = ir.Shape(["batch", 3, spec.size, spec.size]), ir.TensorType(ir.DataType.FLOAT)
    pixels = ir.Value(name="pixels", type=kind, shape=shape)
    result = ir.Value(name="result", type=kind, shape=shape)
    node = ir.node("Identity", [pixels], outputs=[result])
    model = ir.Model(ir.Graph([pixels], [result], nodes=[node], opset_imports={"": 20}), ir_version=10)
    take_pictures(model, spec)
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


def levels(session: onnxruntime.InferenceSession, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    found = session.run(None, {"pixels": picture})[0]
    return np.asarray(found[0] * 255)


@pytest.mark.parametrize(("size", "interpolation"), [(64, "bilinear"), (256, "bilinear"), (224, "bicubic")])
def test_pixels_are_pillow_s_but_for_one_level_in_a_hundred_values(size: int, interpolation: str) -> None:
    spec = Preprocess(size=size, interpolation=interpolation)  # type: ignore[arg-type]
    session, off, count = front(spec), 0, 0
    for path, shape in zip(image_paths(), SIZES, strict=False):
        picture = load_image(path).resize(shape)
        wanted = np.rint(preprocess(picture, spec).numpy() * 255)
        found = levels(session, np.asarray(picture))
        assert found.shape == (3, size, size)
        assert np.abs(found - wanted).max() < 1.001, shape
        off, count = off + int((np.abs(found - wanted) > 0.5).sum()), count + wanted.size
    assert off / count < 0.01


def test_a_picture_of_the_tower_s_size_is_left_as_it_is_and_a_fourth_channel_is_dropped() -> None:
    spec = Preprocess(size=64)
    session = front(spec)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    wanted = picture[..., :3].transpose(2, 0, 1).astype(np.float32)
    assert np.array_equal(np.rint(levels(session, picture)), wanted)
    assert np.array_equal(np.rint(levels(session, picture[..., :3])), wanted)


@pytest.mark.parametrize("width", [65, 66, 67, 68, 69, 70, 71])
def test_of_an_odd_number_of_columns_the_half_is_left_out_that_torchvision_leaves_out(width: int) -> None:
    spec = Preprocess(size=64)
    columns = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (64, width, 3))
    found = levels(front(spec), np.ascontiguousarray(columns))
    wanted = preprocess(Image.fromarray(np.ascontiguousarray(columns)), spec).numpy() * 255
    assert np.array_equal(np.rint(found), np.rint(wanted))


def test_other_targets_say_why_they_cannot() -> None:
    for name in targets():
        if name != "onnx":
            with pytest.raises(UsageError, match=f"`input='bytes'` is refused for {targets()[name].title}: ."):
                choose(ExportRequest(targets=(name,), input="bytes"))
    with pytest.raises(UsageError, match="is of the image tower; leave it out"):
        choose(ExportRequest(targets=("onnx",), input="bytes", tower="text"))
    with pytest.raises(UsageError, match="unknown `input` 'byte'; known: pixels, bytes"):
        mcd.export(mcd.load_model(), "onnx", input="byte")
    assert choose(ExportRequest(targets=(), layout=read_layout("ente"))).request.input == "bytes"
