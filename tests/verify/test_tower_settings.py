"""Settings that no answer shows, planted in graphs that were read from artifacts of every format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.files import require
from tiny import WORDS, known
from writing import small_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Constant, Graph, Input, Node, Wire
from mobileclip_deploy.verify.instruments.tower_settings import Settings, graph_settings, tower_settings, unlike_tower


@dataclass(frozen=True)
class Words:
    """What a format calls the operations that are planted, which take `x` and one number."""

    bound: str
    factor: str
    equal: str
    precision: str = "fp16"


FORMATS = {
    "onnx": Words("Clip", "Mul", "Equal"),
    "coreml": Words("clip", "mul", "equal"),
    "litert": Words("MINIMUM", "MUL", "EQUAL"),
    "coreai": Words(
        "decomposable.broadcasting_minimum", "decomposable.broadcasting_mul", "decomposable.broadcasting_equal"
    ),
    "executorch": Words("aten::clamp.out", "aten::mul.Scalar_out", "aten::eq.Scalar_out", "fp32"),
}


@dataclass(frozen=True)
class Read:
    """The graph of a text tower in a format, and what its checkpoint's own tower sets."""

    words: Words
    graph: Graph
    own: Settings

    def told(self, graph: Graph) -> str | None:
        return unlike_tower(graph_settings(graph), self.own)


@pytest.fixture(
    scope="module",
    params=["onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS if name != "onnx")],
)
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    require(request.param)
    torch.set_num_threads(1)
    folder, words = tmp_path_factory.mktemp("words"), FORMATS[request.param]
    with known(folder) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        bundle = mcd.export(model, request.param, words.precision, folder / "out", tower="text", verify=False)
        graph = get_target(request.param).open(bundle.artifact("text")).graph
        assert graph is not None
        ids = torch.full((1, 77), 400)
        ids[0, 0], ids[0, 5] = 49406, 49407
        yield Read(words, graph, tower_settings(make_tower(model, "text"), ids))


def appended(graph: Graph, *made: tuple[str, float]) -> Graph:
    """Operations of one number each behind the output, one after the other."""
    nodes, wire = list(graph.nodes), graph.results[0]
    for kind, number in made:
        nodes.append(Node(kind, (("x", wire), ("y", Constant(np.float32(number))))))
        wire = Wire(len(nodes) - 1)
    return replace(graph, nodes=tuple(nodes), results=(wire,))


def compared(read: Read, word: int) -> Graph:
    """Ids are compared with a word's, which the output needs."""
    equal = Node(read.words.equal, (("x", Wire(None)), ("y", Constant(np.int64(word)))))
    count = len(read.graph.nodes)
    used = Node(read.words.factor, (("x", read.graph.results[0]), ("y", Wire(count))))
    return replace(read.graph, nodes=(*read.graph.nodes, equal, used), results=(Wire(count + 1),))


def with_epsilon(graph: Graph, factor: float) -> Graph:
    """Another epsilon of the first norm, which formats have as a setting, an input, or a number added before a root."""

    def changed(value: Any) -> Any:
        if isinstance(value, Constant) and value.values.dtype.kind == "f" and value.values.size == 1:
            number = float(value.values.reshape(-1)[0])
            return Constant(value.values * factor) if 0 < number < 1e-3 else value
        if isinstance(value, float) and 0 < value < 1e-3:
            return value * factor
        return f"Double {1e-5 * factor}" if isinstance(value, str) and value == "Double 1e-05" else value

    for number, node in enumerate(graph.nodes):
        inputs: tuple[tuple[str, Input], ...] = tuple((name, changed(value)) for name, value in node.inputs)
        settings = {name: changed(value) for name, value in node.settings.items()}
        if any(a is not b for (_, a), (_, b) in zip(inputs, node.inputs, strict=True)) or settings != node.settings:
            other = replace(node, inputs=inputs, settings=settings)
            return replace(graph, nodes=(*graph.nodes[:number], other, *graph.nodes[number + 1 :]))
    raise AssertionError("no epsilon in it")


def test_a_tower_as_it_was_written_sets_what_its_checkpoint_sets(read: Read) -> None:
    assert read.own.epsilons
    assert len(graph_settings(read.graph).epsilons) >= len(read.own.epsilons)
    assert read.told(read.graph) is None


def test_a_table_of_two_numbers_per_byte_is_taken_apart_and_not_scaled_and_back(tmp_path: Path) -> None:
    bundle = small_bundle(WORDS, "onnx", "w4", tmp_path, tower="text", verify=False)
    graph = get_target("onnx").open(bundle.artifact("text")).graph
    assert {0.0625, 16.0} <= {
        float(one.values.reshape(-1)[0]) for node in graph.nodes for _, one in node.inputs if single(one)
    }
    assert not {0.0625, 16.0} & set(graph_settings(graph).factors)


def single(value: Input) -> bool:
    return isinstance(value, Constant) and value.values.size == 1


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda read: with_epsilon(read.graph, 3), "a norm has the epsilon 3"),
        (lambda read: with_epsilon(read.graph, 0.1), "a norm has the epsilon 1"),
        (lambda read: appended(read.graph, (read.words.bound, 1e4)), "values are clipped at 10000, unlike"),
        (
            lambda read: appended(read.graph, (read.words.factor, 4096), (read.words.factor, 1 / 4096)),
            "values are multiplied by 4096 and divided by it again",
        ),
        (
            lambda read: appended(read.graph, (read.words.factor, 4096), ("Div", 4096)),
            "values are multiplied by 4096 and divided by it again",
        ),
        (lambda read: compared(read, 12345), "ids are compared with 12345, unlike"),
    ],
    ids=[
        "a larger epsilon",
        "a smaller epsilon",
        "a bound that nothing reaches",
        "scaled and back",
        "and divided",
        "a branch for a rare word",
    ],
)
def test_what_no_stored_input_shows_is_seen(read: Read, plant: Callable[[Read], Graph], said: str) -> None:
    told = read.told(plant(read))
    assert said in told


def test_a_gelu_that_is_computed_by_tanh_is_seen(read: Read) -> None:
    """Where a format says so in a setting; XNNPACK's has none, and tanh is an operation there."""
    found = 0
    nodes = list(read.graph.nodes)
    for number, node in enumerate(nodes):
        named = [name for name in node.settings if name in ("approximate", "mode")]
        if node.type.lower().endswith("gelu") and named:
            nodes[number] = replace(node, settings={**node.settings, named[0]: "#approximate<tanh>"})
            found += 1
    told = read.told(replace(read.graph, nodes=tuple(nodes)))
    assert (told is None) == (read.words.factor.startswith("aten"))
    assert told is None or (found and "computed by tanh" in told)


def test_what_a_checkpoint_does_itself_is_no_fault(read: Read) -> None:
    assert read.told(appended(read.graph, (read.words.bound, 1.0))) is None  # it cuts off there, too
    assert read.told(appended(read.graph, (read.words.factor, 4096))) is None  # whose answers show it
    moved = replace(read.own, bounds=read.own.bounds | {6.0}, factors=[*read.own.factors, 4096.0])
    both = appended(read.graph, (read.words.bound, 6.0), (read.words.factor, 4096), (read.words.factor, 1 / 4096))
    assert unlike_tower(graph_settings(both), moved) is None
