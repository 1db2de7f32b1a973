"""What stands in front of a tower that takes pictures of any size, against Pillow: pixel by pixel."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from PIL import Image

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.layouts import read_layout
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.network.model.preprocessing import load_image, preprocess
from mobileclip_deploy.network.model.variants import Preprocess
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.targets import targets
from mobileclip_deploy.targets.onnx.pictures import LARGE, LARGE_RATIO, take_pictures
from mobileclip_deploy.verify.checks.pictures import SIZES


def front_model(spec: Preprocess) -> onnx.ModelProto:
    """The part in front of a tower that gives back the pixels that it is given."""
    shape, kind = ir.Shape(["batch", 3, spec.size, spec.size]), ir.TensorType(ir.DataType.FLOAT)
    pixels, result = (ir.Value(name=name, type=kind, shape=shape) for name in ("pixels", "result"))
    node = ir.node("Identity", [pixels], outputs=[result])
    model = ir.Model(ir.Graph([pixels], [result], nodes=[node], opset_imports={"": 20}, name="pictures"), ir_version=10)
    take_pictures(model, spec)
    return ir.to_proto(model)


def front(spec: Preprocess) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(front_model(spec).SerializeToString(), providers=["CPUExecutionProvider"])


def levels(session: onnxruntime.InferenceSession, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    found = session.run(None, {"pixels": picture})[0]
    return np.asarray(found[0] * 255)


def large(shape: tuple[int, int], size: int) -> bool:
    return shape[0] * shape[1] >= LARGE and min(shape) >= LARGE_RATIO * size


@pytest.mark.once("interpolation")
@pytest.mark.parametrize(
    ("size", "interpolation", "kept"),
    [(64, "bilinear", None), (256, "bilinear", None), (224, "bicubic", None), (64, "bicubic", 0.9)],
)
def test_pixels_are_pillow_s_but_for_one_level_in_some_values(
    size: int, interpolation: str, kept: float | None
) -> None:
    spec = Preprocess(size=size, interpolation=interpolation, crop_fraction=kept)  # type: ignore[arg-type]
    session = front(spec)
    shapes = (*SIZES, (1003, 1301), (1, 3))
    expected = [(4000, 3000), (3000, 4000), *([] if size == 256 else [(1003, 1301)])]
    assert [shape for shape in shapes if large(shape, size)] == expected
    for path, shape in zip((*image_paths(), *image_paths()), shapes, strict=False):
        picture = load_image(path).resize(shape)
        wanted = np.rint(preprocess(picture, spec) * 255)
        away = np.abs(levels(session, np.asarray(picture)) - wanted)
        assert away.shape == (3, size, size)
        # Rows of large pictures come first, and a cubic curve that leaves 0 to 255 is cut off there first.
        products = large(shape, size)
        assert away.max() < (4.001 if products and interpolation == "bicubic" else 1.001), shape
        assert (away > 0.5).mean() < (0.2 if products else 0.02), shape


def test_a_large_picture_of_one_colour_stays_as_it_is_and_stripes_are_averaged() -> None:
    session = front(Preprocess(size=64))
    for level in (0, 1, 100, 254, 255):
        found = levels(session, np.full((1003, 1301, 3), level, dtype=np.uint8))
        assert np.array_equal(np.rint(found), np.full((3, 64, 64), level, np.float32))
    # One row in two is white: a resizing that skips rows would see one of the two.
    stripes = np.zeros((2000, 1500, 3), dtype=np.uint8)
    stripes[::2] = 255
    for turned in (stripes, stripes.transpose(1, 0, 2)):
        assert np.abs(levels(front(Preprocess(size=64)), np.ascontiguousarray(turned)) - 127.5).max() < 2


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
    wanted = preprocess(Image.fromarray(np.ascontiguousarray(columns)), spec) * 255
    assert np.array_equal(np.rint(found), np.rint(wanted))


def test_other_targets_say_why_they_cannot() -> None:
    for name in targets():
        if name != "onnx":
            with pytest.raises(UsageError, match=f"`input='bytes'` is not supported for {targets()[name].title}: ."):
                choose(ExportRequest(targets=(name,), input="bytes"))
    with pytest.raises(UsageError, match="is for the image tower; leave it out"):
        choose(ExportRequest(targets=("onnx",), input="bytes", tower="text"))
    with pytest.raises(UsageError, match="unknown `input` 'byte'; known: pixels, bytes"):
        mcd.export(mcd.load_model(), "onnx", input="byte")
    assert choose(ExportRequest(targets=(), layout=read_layout("ente"))).request.input == "bytes"
