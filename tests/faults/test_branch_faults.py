"""Branches in an ONNX graph, as of one that takes pictures of any size: what they compute counts, not their names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from targets.onnx.test_onnx_pictures import front_model

from mobileclip_deploy.network.model.variants import Preprocess
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Graph, first_difference

Change = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """What makes pixels of a picture, and gives them back: two branches, each with a resizing of its own."""
    return front_model(Preprocess(size=64))


def read(model: onnx.ModelProto, path: Path) -> Graph:
    onnx.save(model, path)
    return get_target("onnx").open(path).graph


def branches(graph: onnx.GraphProto) -> dict[str, onnx.GraphProto]:
    return {one.name: one.g for node in graph.node for one in node.attribute if one.type == onnx.AttributeProto.GRAPH}


def whole(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    yield from branches(graph).values()


def renamed(model: onnx.ModelProto) -> None:
    kept = {"", *(value.name for value in (*model.graph.input, *model.graph.output))}
    for graph in whole(model.graph):
        for node in graph.node:
            node.input[:] = [name if name in kept else f"z.{name}" for name in node.input]
            node.output[:] = [name if name in kept else f"z.{name}" for name in node.output]
        for value in (*graph.initializer, *graph.value_info, *graph.output):
            value.name = value.name if value.name in kept else f"z.{value.name}"


def with_shapes(model: onnx.ModelProto) -> None:
    before = len(model.SerializeToString())
    model.CopyFrom(onnx.shape_inference.infer_shapes(model))
    assert len(model.SerializeToString()) > before


def reordered(model: onnx.ModelProto) -> None:
    """What a branch needs first stands as near to its end as it can."""
    for graph in branches(model.graph).values():
        nodes = list(graph.node)
        for node in list(nodes):
            nodes.remove(node)
            users = (place for place, other in enumerate(nodes) if {*node.output} & {*other.input})
            nodes.insert(min(users, default=len(nodes)), node)
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def no_antialiasing(model: onnx.ModelProto) -> None:
    (resize,) = (node for node in branches(model.graph)["else_branch"].node if node.op_type == "Resize")
    next(one for one in resize.attribute if one.name == "antialias").i = 0


def swapped(model: onnx.ModelProto) -> None:
    found = branches(model.graph)
    kept = onnx.GraphProto.FromString(found["then_branch"].SerializeToString())
    found["then_branch"].CopyFrom(found["else_branch"])
    found["else_branch"].CopyFrom(kept)


def from_another_value(model: onnx.ModelProto) -> None:
    """Where the middle of one axis begins is taken for the other's."""
    concat = next(node for node in reversed(branches(model.graph)["else_branch"].node) if node.op_type == "Concat")
    assert concat.input[0] != concat.input[1]
    concat.input[:] = [concat.input[1], concat.input[0]]


def another_constant(model: onnx.ModelProto) -> None:
    taken = {name for node in branches(model.graph)["then_branch"].node for name in node.input}
    own = {name for node in model.graph.node for name in node.input}
    tensor = next(one for one in model.graph.initializer if one.name in taken - own and one.data_type == 1)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1), tensor.name))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        *((change, True) for change in (renamed, with_shapes, reordered)),
        *((change, False) for change in (no_antialiasing, swapped, from_another_value, another_constant)),
    ],
)
def test_a_fault_in_a_branch_is_seen_and_other_words_are_not(
    model: onnx.ModelProto, change: Change, same: bool, tmp_path: Path
) -> None:
    other = onnx.ModelProto.FromString(model.SerializeToString())
    change(other)
    found = first_difference(read(other, tmp_path / "other.onnx"), read(model, tmp_path / "model.onnx"))
    assert (found is None) is same
