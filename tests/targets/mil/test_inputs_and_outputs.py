"""Image and tensor inputs, outputs, classifiers and multifunction packages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from targets.mil.programs import TARGETS, build, ct, mb, quiet, save

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.targets.mil import load

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 5, 3), dtype=np.uint8)


def _image_package(path: Path, layout: Any, channels: int = 3, **options: Any) -> Path:
    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, channels, 4, 5))], opset_version=TARGETS[17])
        def prog(image: Any) -> Any:
            return mb.clip(x=image, alpha=-1000.0, beta=1000.0, name="y")

    image = ct.ImageType(name="image", shape=(1, channels, 4, 5), color_layout=layout, **options)
    return save(prog, path, inputs=[image])


def test_rgb_image_goes_through_the_scale_and_bias_of_the_package(tmp_path: Path) -> None:
    path = _image_package(tmp_path / "p.mlpackage", ct.colorlayout.RGB, scale=1 / 255, bias=[-0.5, 0.25, 1.0])
    program = load(path)
    (port,) = program.inputs
    assert (port.name, port.kind, port.colour, port.shape) == ("image", "image", "RGB", (1, 3, 4, 5))
    assert port.scale == pytest.approx((1 / 255,))
    assert port.bias == pytest.approx((-0.5, 0.25, 1.0))
    expected = PIXELS.transpose(2, 0, 1)[None] / 255 + np.array([-0.5, 0.25, 1.0])[:, None, None]
    np.testing.assert_allclose(program({"image": PIXELS})["y"], expected, rtol=1e-6, atol=1e-7)


def test_an_image_without_scale_arrives_as_bytes(tmp_path: Path) -> None:
    program = load(_image_package(tmp_path / "p.mlpackage", ct.colorlayout.RGB))
    assert program.inputs[0].scale is None
    np.testing.assert_array_equal(program({"image": PIXELS[None]})["y"], PIXELS.transpose(2, 0, 1)[None])


def test_an_image_in_bgr_is_given_as_rgb_and_arrives_turned(tmp_path: Path) -> None:
    program = load(_image_package(tmp_path / "p.mlpackage", ct.colorlayout.BGR))
    assert program.inputs[0].colour == "BGR"
    np.testing.assert_array_equal(program({"image": PIXELS})["y"], PIXELS[:, :, ::-1].transpose(2, 0, 1)[None])


def test_an_image_in_grey_is_described_and_refused(tmp_path: Path) -> None:
    program = load(_image_package(tmp_path / "p.mlpackage", ct.colorlayout.GRAYSCALE, 1))
    assert program.inputs[0].colour == "GRAY"
    with pytest.raises(InvalidInput, match="which is not evaluated"):
        program({"image": PIXELS})


@pytest.mark.parametrize(
    "wrong",
    [PIXELS.astype(np.float32), PIXELS.transpose(2, 0, 1), PIXELS[:3], PIXELS[:, :, :2], PIXELS.astype(np.int32)],
    ids=["float", "channels-first", "size", "channels", "int32"],
)
def test_a_wrong_image_is_refused_with_what_is_expected(wrong: np.ndarray, tmp_path: Path) -> None:
    program = load(_image_package(tmp_path / "p.mlpackage", ct.colorlayout.RGB))
    with pytest.raises(InvalidInput, match=r"expected (uint8, height x width x 3|\[1, 3, 4, 5\])"):
        program({"image": wrong})


@pytest.fixture(scope="module")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = np.arange(20, dtype=np.float32).reshape(10, 2)

    def body(mb: Any, ids: Any) -> Any:
        return mb.gather(x=table, indices=ids, axis=0, name="rows")

    return build(tmp_path_factory.mktemp("lookup") / "p.mlpackage", {"ids": ((1, 3), "int32")}, body)


def test_ids_may_be_int64_tensors_or_lists(lookup: Path) -> None:
    program = load(lookup)
    for ids in ([[1, 0, 9]], torch.tensor([[1, 0, 9]]), np.array([[1, 0, 9]], np.int32)):
        np.testing.assert_array_equal(program({"ids": ids})["rows"], [[[2, 3], [0, 1], [18, 19]]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"missing \['ids'\]"),
        ({"ids": [[1, 0, 9]], "more": 1}, r"unknown \['more'\]"),
        ({"ids": [[1, 0]]}, r"shape \[1, 2\], expected \[1, 3\]"),
        ({"ids": [[1.0, 0.0, 9.0]]}, "float64, expected int32"),
        ({"ids": [[2**40, 0, 0]]}, "outside int32"),
        ({"ids": [[10, 0, 0]]}, "out of range for 10"),
        ({"ids": [[-1, 0, 0]]}, "out of range for 10"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line(given: dict[str, Any], message: str, lookup: Path) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        load(lookup)(given)
    assert "\n" not in str(caught.value)


def test_an_unknown_precision_is_refused(lookup: Path) -> None:
    with pytest.raises(UsageError, match="float32, float16"):
        load(lookup)({"ids": [[0, 0, 0]]}, "int8")  # type: ignore[arg-type]


def test_a_flexible_input_takes_any_size_of_its_range(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x).sum(1)

    n = torch.export.Dim("n", min=2, max=6)
    exported = torch.export.export(Sum(), (torch.ones(1, 3),), dynamic_shapes={"x": {1: n}}).run_decompositions({})
    size = ct.RangeDim(lower_bound=2, upper_bound=6, default=3)
    path = save(exported, tmp_path / "p.mlpackage", inputs=[ct.TensorType(name="x", shape=(1, size))])
    program = load(path)
    assert program.inputs[0].shape == (1, None)
    (name,) = (port.name for port in program.outputs)
    for count in (2, 5):
        np.testing.assert_allclose(program({"x": np.ones((1, count))})[name], [count])
    with pytest.raises(InvalidInput, match="within"):
        program({"x": np.ones((1, 7))})


@pytest.mark.parametrize("labels", [["cat", "dog", "owl"], [10, 20, 30]], ids=["text", "int"])
def test_a_classifier_yields_label_and_probabilities(labels: list[Any], tmp_path: Path) -> None:
    class Head(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(x, 1)

    exported = torch.export.export(Head(), (torch.zeros(1, 3),)).run_decompositions({})
    path = save(
        exported,
        tmp_path / "p.mlpackage",
        inputs=[ct.TensorType(name="x", shape=(1, 3))],
        classifier_config=ct.ClassifierConfig(labels),
    )
    program = load(path)
    assert [port.kind for port in program.outputs] == ["label", "probabilities"]
    outputs = program({"x": np.log([[1.0, 6.0, 3.0]])})
    assert outputs["classLabel"] == labels[1]
    assert outputs["classLabel_probs"] == pytest.approx(dict(zip(labels, (0.1, 0.6, 0.3), strict=True)))
    with pytest.raises(InvalidInput, match="one input at a time"):
        program.many([{"x": np.zeros((1, 3))}])


def test_functions_of_a_package_are_chosen_by_name(tmp_path: Path) -> None:
    def body(factor: float) -> Any:
        weight = np.full((20, 20), factor, np.float32)
        return lambda mb, x: mb.linear(x=x, weight=weight, name="y")

    with quiet():
        descriptor = ct.utils.MultiFunctionDescriptor()
        for name, factor in (("first", 1.0), ("second", 2.0)):
            path = build(tmp_path / f"{name}.mlpackage", {"x": ((1, 20), "float32")}, body(factor), 18)
            descriptor.add_function(str(path), src_function_name="main", target_function_name=name)
        descriptor.default_function_name = "second"
        ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    x = np.ones((1, 20), np.float32)
    default = load(tmp_path / "both.mlpackage")
    assert (default.function, default.functions) == ("second", ("first", "second"))
    np.testing.assert_allclose(default({"x": x})["y"], np.full((1, 20), 40.0))
    np.testing.assert_allclose(load(tmp_path / "both.mlpackage", "first")({"x": x})["y"], np.full((1, 20), 20.0))
    with pytest.raises(InvalidInput, match=r"\['first', 'second'\], not 'third'"):
        load(tmp_path / "both.mlpackage", "third")


def test_outputs_have_their_declared_type(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.transpose(x=x, perm=[0], name="same"), mb.cast(x=x, dtype="int32", name="whole")

    program = load(build(tmp_path / "p.mlpackage", {"x": ((2,), "float16")}, body))
    x = np.array([1.7, 1 / 3])
    exact, rounded = program({"x": x}), program({"x": x}, "float16")
    assert (exact["same"].dtype, rounded["same"].dtype) == (np.float32, np.float16)
    assert exact["whole"].dtype == rounded["whole"].dtype == np.int32
    np.testing.assert_array_equal(exact["same"], x.astype(np.float32))
    np.testing.assert_array_equal(rounded["same"], x.astype(np.float16))


def test_many_inputs_are_answered_as_one_by_one(lookup: Path, tmp_path: Path) -> None:
    program = load(_image_package(tmp_path / "p.mlpackage", ct.colorlayout.RGB, scale=1 / 255))
    pictures = [{"image": np.roll(PIXELS, turn)} for turn in range(19)]  # more than are computed beside each other
    together = program.many(pictures)["y"]
    assert together.shape == (19, 1, 3, 4, 5)
    np.testing.assert_array_equal(together, [program(one)["y"] for one in pictures])
    words = load(lookup)
    rows = [{"ids": [[one, 3 - one, 9]]} for one in range(4)]
    np.testing.assert_array_equal(words.many(rows)["rows"], [words(one)["rows"] for one in rows])


def test_one_index_of_many_that_is_out_of_range_is_refused(lookup: Path) -> None:
    rows = [{"ids": [[one, one, 0]]} for one in (0, 1, 10)]
    with pytest.raises(InvalidInput, match="indices from 0 to 10 are out of range"):
        load(lookup).many(rows)
