"""Constants of a tower's code that a file stores in float16: the reference has them too, and a wrong one shows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.onnx_planting import Array, PlantedOnnx
from tiny import ROTARY_WORDS, known
from torch.nn import functional as F
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.network.model.architecture.attention import QuickGELU
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.computing import compute_again
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.graph import Constant, Graph, Node, Wire
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.instruments.stored_constants import StoredConstants
from mobileclip_deploy.verify.subject import OpenedSubject

Plant = Callable[[PlantedOnnx], object]
STEP = 2**-10


def graph_of(*factors: float) -> Graph:
    return Graph((), tuple(Node("Mul", (("B", Constant(np.float16(one))),)) for one in factors), (), ())


def rounded(value: float) -> float:
    return float(np.float16(value))


@pytest.mark.parametrize(
    ("stored", "factor"),
    [(1.702, rounded(1.702)), (1.702 * (1 + STEP), 1.702), (1.5, 1.702)],
    ids=["rounded", "a step off", "another"],
)
def test_a_number_is_replaced_by_its_rounding_alone(stored: float, factor: float) -> None:
    x = torch.linspace(-3, 3, 9, dtype=torch.float64)
    graph = graph_of(stored)
    with StoredConstants(replace(graph, results=())), torch.no_grad():
        assert torch.equal(QuickGELU()(x), x * torch.sigmoid(1.702 * x))  # no output needs the number
    graph = replace(graph, results=graph_results(graph))
    with StoredConstants(graph), torch.no_grad():
        assert torch.equal(QuickGELU()(x), x * torch.sigmoid(factor * x))


@pytest.mark.parametrize(
    ("stored", "scale"),
    [
        ((32**-0.5,), rounded(32**-0.5)),
        ((32**-0.25,), rounded(32**-0.25) ** 2),
        ((32**-0.25 * (1 + STEP),), 32**-0.5),
        ((), 32**-0.5),
    ],
    ids=["once", "its root on both sides", "a root that is a step off", "in the operation"],
)
def test_attention_is_scaled_as_the_file_does(stored: tuple[float, ...], scale: float) -> None:
    q, k, v = torch.randn(3, 1, 2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = graph_of(*stored)
    with StoredConstants(replace(graph, results=graph_results(graph))):
        found = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v, scale=scale), rtol=1e-12, atol=0)


def graph_results(graph: Graph) -> tuple[Wire, ...]:
    return tuple(Wire(number) for number in range(len(graph.nodes)))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> OpenedSubject:
    """Rotary positions, a pooled query, and heads of 16 and of 8, whose scale no float16 number is."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("halves")
    with known(folder, ROTARY_WORDS) as checkpoint:
        model = mcd.load_model(ROTARY_WORDS, checkpoint)
        bundle = mcd.export(model, "onnx", "fp16", folder / "out", tower="image", verify=False)
        again, reference = compute_again(model, Reference.read(bundle.golden))
        return subject(bundle, model, reference, folder / "again", fresh=again)


def checked(own: OpenedSubject, plant: Plant, folder: Path) -> list[Check]:
    file = PlantedOnnx(own.bundle.artifact("image").read_bytes())
    plant(file)
    planted = replace(own, bundle=Bundle(folder, own.bundle.manifest))
    file.save(planted.bundle.artifact("image"))
    assert [check.status for check in check_weights(planted.towers["image"])] == ["passed"]
    return check_graph(planted.towers["image"])


def bumped(values: Array) -> Array:
    """Each number by one step of float16."""
    return np.nextafter(values, np.float16(np.inf))


def roots(file: PlantedOnnx, change: Callable[[Array], Array]) -> None:
    """The root of attention's scale, where heads have 8 numbers."""
    names = {name for node in file.all("Mul") for name in node.input if file.has(name)}
    (root,) = (name for name in names if file.array(name).size == 1 and rounded(8**-0.25) == file.array(name))
    file.change(root, change)


def biases(file: PlantedOnnx) -> None:
    """All of the last layer with a bias."""
    node = [node for node in file.all("Add") if file.has(node.input[1]) and file.array(node.input[1]).ndim == 1][-1]
    file.change(node.input[1], bumped)


def epsilon(file: PlantedOnnx) -> None:
    file.set(file.find("LayerNormalization"), "epsilon", 1e-3)


def query(file: PlantedOnnx) -> None:
    """What the pooling asks."""
    file.change(file.find("Expand").input[0], bumped)


def test_what_is_left_of_a_file_in_halves_is_the_arithmetic_of_float32(halves: OpenedSubject, tmp_path: Path) -> None:
    (check,) = checked(halves, lambda file: None, tmp_path)
    floor = halves.towers["image"].floor
    assert check.status == "passed"
    assert floor is not None
    assert check.gate == str(halves.gates.exact(floor))
    assert check.deviation is not None
    assert 3 * check.deviation.relative < halves.gates.exact(floor).value


@pytest.mark.parametrize(
    "plant",
    [lambda file: roots(file, bumped), lambda file: roots(file, lambda values: values * 2), biases, epsilon, query],
    ids=["a root a step off", "a root twice as large", "biases a step off", "an epsilon of 1e-3", "a query a step off"],
)
def test_a_wrong_constant_in_a_file_of_halves_is_seen(halves: OpenedSubject, plant: Plant, tmp_path: Path) -> None:
    assert "failed" in {check.status for check in checked(halves, plant, tmp_path)}
