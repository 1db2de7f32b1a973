"""What an operator of ONNX Runtime computes and moves, by the events of its profiler."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobileclip_deploy.targets.benchmarking import KernelTime, SessionSetup
from mobileclip_deploy.targets.onnx.runner import OnnxSession, operator_times
from mobileclip_deploy.targets.values import RuntimePlace, TensorInfo

SETUP = SessionSetup(
    RuntimePlace("onnxruntime", "cpu"), 1, TensorInfo("x", "float32", (1, 32, 8, 8)), TensorInfo("y", "float32", (1, 5))
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A depthwise convolution [1, 32, 8, 8], a grouped one, the mean of each channel, and two products in int8."""
    random = np.random.default_rng(0)
    weights: dict[str, npt.NDArray[Any]] = {
        "depthwise": random.random((32, 1, 7, 7), np.float32),
        "grouped": random.random((6, 16, 3, 3), np.float32),
        "integers": random.integers(-9, 9, (6, 5)).astype(np.int8),
    }
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], "first", group=32, pads=[3, 3, 3, 3]),
        helper.make_node("Conv", ["a", "grouped"], ["b"], "second", group=2, pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["b", "axes"], ["c"], "mean", keepdims=0),
        helper.make_node("DynamicQuantizeLinear", ["c"], ["d", "scale", "zero"], "rounding"),
        helper.make_node("MatMulInteger", ["d", "integers"], ["e"], "product"),
        helper.make_node("Cast", ["e"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    constants = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 32, 8, 8)), ("y", (1, 5)))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_work_is_counted_from_shapes_and_named_by_window_and_groups(path: Path) -> None:
    session = OnnxSession(path, SETUP)
    session.feed(np.ones((1, 32, 8, 8), np.float32))
    found = {(one.operator, one.work.kind): one.work for one in session.profile() if one.work}
    depthwise, grouped = found["Conv", "7x7 depthwise"], found["Conv", "3x3 grouped"]
    assert (depthwise.arithmetic_operations, depthwise.arithmetic) == (2 * 32 * 64 * 49, "float32")
    assert depthwise.moved_bytes == 4 * (32 * 64 + 32 * 49 + 32 * 64)
    assert grouped.arithmetic_operations == 2 * 6 * 64 * 16 * 9
    product = found["MatMulInteger", None]
    assert (product.arithmetic_operations, product.arithmetic) == (2 * 6 * 5, "int8")
    assert product.moved_bytes == 6 + 6 * 5 + 4 * 5
    assert found["ReduceMean", None].arithmetic_operations == 0


class Ended:
    """A session whose profile says what a test says: `durations` of the calls of one node, in microseconds."""

    def __init__(self, path: Path, durations: list[int], operator: str) -> None:
        self._path, self._durations, self._operator = path, durations, operator

    def end_profiling(self) -> str:
        described: dict[str, Any] = {"op_name": self._operator, "activation_size": "8", "output_size": "8"}
        described |= {
            "parameter_size": "0",
            "input_type_shape": [{"float": [2]}],
            "output_type_shape": [{"float": [2]}],
        }
        events = [{"name": "n_kernel_time", "dur": one, "args": described} for one in self._durations]
        self._path.write_text(json.dumps([{"name": "session_run", "dur": 9}, *events]))
        return str(self._path)


@pytest.mark.parametrize("operator", ["Relu", "Attention"])
def test_a_call_takes_the_least_that_it_took(path: Path, tmp_path: Path, operator: str) -> None:
    durations = [1, 1, *[70, 60, 50, 90, 80, 50, 55, 60, 70, 99]]  # the first two warm up
    session = Ended(tmp_path / "events.json", durations, operator)
    (found,) = operator_times(session, lambda: None, path)
    assert (found.operator, found.calls, found.total_ns) == (operator, 1, 50_000)
    assert (found.work is None) == (operator == "Attention")  # what it multiplies is not told by shapes


def test_nodes_of_one_name_are_not_taken_for_each_other(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = "n"
    onnx.save(model, tmp_path / "graph.onnx")
    session = Ended(tmp_path / "events.json", [1] * 12, "Conv")
    assert operator_times(session, lambda: None, tmp_path / "graph.onnx") == (KernelTime("Conv", 1, 1000),)
