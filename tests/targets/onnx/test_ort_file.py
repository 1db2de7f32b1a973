"""An .ort file is held to its origin whatever it is made of."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mobileclip_deploy.targets.onnx.ort_file import OrtFile
from mobileclip_deploy.targets.values import Expected

SIDES = np.ones((1, 2), np.float32)


def branching(path: Path, other: str) -> Path:
    """A model with a graph in each branch, as towers have that take pictures: x + x, or by `other`."""
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(kind, ["x", "x"], ["y"])], name, [], [y])
        for name, kind in (("then", "Add"), ("else", other))
    }
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "bound"], ["large"]),
        helper.make_node("If", ["large"], ["y"], **branches),
    ]
    bound = helper.make_tensor("bound", TensorProto.FLOAT, (), [0.5])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2))
    graph = helper.make_graph(nodes, "branching", [x], [y], [bound])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.mark.parametrize(("other", "same"), [("Mul", True), ("Sub", False)])
def test_branches_are_compared(other: str, same: bool, tmp_path: Path) -> None:
    expected = Expected(SIDES, 2 * SIDES, 1e-6)
    written = OrtFile(tmp_path / "tower.ort")
    written.write(branching(tmp_path / "tower.onnx", "Mul"), expected)
    assert (written.difference(branching(tmp_path / "other.onnx", other)) is None) is same
