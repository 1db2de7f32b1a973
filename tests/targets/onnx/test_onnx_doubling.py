"""Convolutions that double their channels, as depthwise ones: the same numbers, from the same constants in the file."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from mobileclip_deploy.targets.onnx.editing import write_model
from mobileclip_deploy.targets.onnx.graph import split_doubling
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.runner import open_session


def model(outputs: int, inputs: int, groups: int, biased: bool = True) -> onnx.ModelProto:
    """One convolution of 7 x 7 and stride 2 on [N, channels, 9, 8]."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((outputs, inputs, 7, 7)).astype(np.float32)
    constants = [numpy_helper.from_array(weight, "weight")]
    if biased:
        constants.append(numpy_helper.from_array(random.standard_normal(outputs).astype(np.float32), "bias"))
    node = helper.make_node(
        "Conv", ["x", *(one.name for one in constants)], ["y"], "conv", group=groups, strides=[2, 2], pads=[3] * 4
    )
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", channels, *sides))
        for name, channels, sides in (("x", inputs * groups, (9, 8)), ("y", outputs, (5, 4)))
    ]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("sliced", [True, False])
@pytest.mark.parametrize(("outputs", "biased"), [(8, True), (8, False), (12, True)])
def test_the_numbers_are_those_of_the_one_convolution(outputs: int, biased: bool, sliced: bool, tmp_path: Path) -> None:
    whole = model(outputs, 1, 4, biased)
    apart = ir.from_proto(shape_inference.infer_shapes(whole))
    assert split_doubling(apart, sliced) == 1
    write_model(apart, tmp_path / "apart.onnx")
    onnx.checker.check_model(str(tmp_path / "apart.onnx"))
    x = np.random.default_rng(1).standard_normal((2, 4, 9, 8)).astype(np.float32)
    found = [
        open_session(source, 1).run(None, {"x": x})[0]
        for source in (whole.SerializeToString(), tmp_path / "apart.onnx")
    ]
    assert found[0].shape == found[1].shape == (2, outputs, 5, 4)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-5)
    convolutions = [node for node in onnx.load(tmp_path / "apart.onnx").graph.node if node.op_type == "Conv"]
    assert len(convolutions) == outputs // 4
    (weight,) = OnnxArtifact(tmp_path / "apart.onnx").weights
    np.testing.assert_array_equal(weight.values, numpy_helper.to_array(whole.graph.initializer[0]))


@pytest.mark.parametrize(("outputs", "inputs", "groups"), [(4, 1, 4), (8, 2, 4), (8, 4, 1)])
def test_others_stay_as_they_are(outputs: int, inputs: int, groups: int) -> None:
    found = ir.from_proto(shape_inference.infer_shapes(model(outputs, inputs, groups)))
    assert split_doubling(found) == 0
    assert [node.op_type for node in found.graph] == ["Conv"]
