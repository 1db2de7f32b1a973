"""Ranges of activations, and which nodes stay in float for them."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobileclip_deploy.targets.onnx.quantization import answers, choose, computed_values
from mobileclip_deploy.targets.ranges import STEPS, Range, ranges_of


@pytest.fixture
def doubling() -> ir.Model:
    """x [N, 1000] -> 2 x -> max(2 x, 0)."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["doubled"]), helper.make_node("Relu", ["doubled"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1000]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.float32([2]), "two")])
    return ir.from_proto(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.fixture
def inputs() -> np.ndarray:
    """Twenty rows evenly from -1 to 3, the last with one value far outside."""
    rows = np.tile(np.linspace(-1, 3, 1000, dtype=np.float32), (20, 1))
    rows[-1, -1] = 1000
    return rows


def measure_ranges(model: ir.Model, names: list[str], inputs: np.ndarray, steps: int) -> dict[str, Range]:
    return ranges_of(lambda: computed_values(model, names, inputs), steps)


FINE = 2**16 - 1  # of so many integers none is saved by cutting off values


def test_a_range_covers_all_but_the_rarest_values(doubling: ir.Model, inputs: np.ndarray) -> None:
    ranges = measure_ranges(doubling, ["x", "doubled", "y"], inputs[:19], FINE)
    assert (ranges["x"].low, ranges["x"].high) == pytest.approx((-1, 3))
    assert (ranges["doubled"].low, ranges["doubled"].high) == pytest.approx((-2, 6))
    assert (ranges["y"].low, ranges["y"].high) == pytest.approx((0, 6))
    cut = measure_ranges(doubling, ["x"], inputs, STEPS)["x"]
    whole = measure_ranges(doubling, ["x"], inputs, FINE)["x"]
    assert cut.high < 4 < 999 < whole.high
    assert [output.name for output in doubling.graph.outputs] == ["y"]


def test_what_rounding_leaves_is_told_in_decibels(doubling: ir.Model, inputs: np.ndarray) -> None:
    found = measure_ranges(doubling, ["x"], inputs[:19], FINE)["x"]
    rounded = (np.rint(inputs[:19] / found.scale + found.zero_point) - found.zero_point) * found.scale
    snr = 10 * np.log10((inputs[:19] ** 2).sum() / ((rounded - inputs[:19]) ** 2).sum())
    assert found.snr_db == pytest.approx(snr, abs=0.5)


def test_zero_is_always_exact_and_has_a_scale_where_nothing_else_comes(doubling: ir.Model) -> None:
    found = measure_ranges(doubling, ["x"], np.linspace(2, 3, 1000, dtype=np.float32)[None], FINE)["x"]
    assert (found.low, int(found.zero_point)) == (0, 0)
    assert measure_ranges(doubling, ["x"], np.zeros((1, 1000), np.float32), STEPS)["x"].scale > 0


def test_answers_are_the_models(doubling: ir.Model, inputs: np.ndarray) -> None:
    assert np.array_equal(answers(doubling, inputs), np.maximum(2 * inputs, 0))


NODES = [f"n{index}" for index in range(20)]


def around(*worst: float) -> list[list[Range]]:
    return [[Range(0, 1, 50.0), Range(0, 1, snr)] for snr in worst]


def test_no_more_nodes_stay_in_float_than_the_embeddings_need() -> None:
    assert choose(NODES, around(*range(20)), lambda left: 0.995, 0.99) == frozenset()
    snr = [30.0] * 20
    snr[7], snr[12] = 3.0, 5.0
    assert choose(NODES, around(*snr), lambda left: 0.995 if "n12" in left else 0.9, 0.99) == {"n7", "n12"}


def test_where_nothing_helps_the_best_is_left_to_the_gate() -> None:
    tried: list[int] = []

    def measure(left: frozenset[str]) -> float:
        tried.append(len(left))
        return 0.8 + len(left) / 1000 if len(left) < 10 else float("nan")

    assert len(choose(NODES, around(*range(20)), measure, 0.99)) == 7
    assert tried == [0, 1, 2, 4, 7, 10]
