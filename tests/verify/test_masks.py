"""Constants with a few huge numbers, masks, and what stands in a causal tower for late positions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contexts import causal_model
from faults.onnx_edits import edited
from faults.onnx_planting import PlantedOnnx
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.graph import Constant, Graph, Node, Wire, first_difference
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.weights import check_weights

Array = npt.NDArray[np.floating]


def causal(dtype: str) -> Array:
    return np.triu(np.full((16, 16), -1e4), 1).astype(dtype)


def with_outliers(dtype: str) -> Array:
    values = np.random.default_rng(0).normal(size=(64, 64))
    values[:2] *= 1e4
    return values.astype(dtype)


def off(place: tuple[int, int], by: float) -> Callable[[Array], None]:
    def change(values: Array) -> None:
        values[place] += by

    return change


def doubled_row(values: Array) -> None:
    values[30] *= 2


def graph(values: Array) -> Graph:
    node = Node("Add", (("x", Wire(None)), ("mask", Constant(values))))
    return Graph(("x float32 [16, 16]",), (node,), ("y",), (Wire(0),))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("made", "change"),
    [
        (causal, off((9, 3), 7)),
        (causal, off((9, 3), 1e-3)),
        (causal, off((3, 9), 8)),
        (with_outliers, off((20, 20), 0.1)),
        (with_outliers, doubled_row),
    ],
    ids=["a zero off by 7", "a zero off by little", "what hides, hides less", "a number beside", "a row beside"],
)
def test_huge_numbers_hide_no_other(made: Callable[[str], Array], change: Callable[[Array], None], dtype: str) -> None:
    wanted = made(dtype)
    written = wanted.copy()
    change(written)
    found = first_difference(graph(written), graph(wanted))
    assert "its mask is off by" in found.describe()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("made", [causal, with_outliers])
def test_one_rounding_is_no_difference_but_in_a_mask(made: Callable[[str], Array], dtype: str) -> None:
    wanted = made(dtype)
    rounded = np.nextafter(wanted, np.asarray(2, dtype) * wanted)
    rounded[wanted == 0] = 0
    assert (first_difference(graph(rounded), graph(wanted)) is None) is (made is with_outliers)


def late_position(file: PlantedOnnx) -> None:
    """The embedding of a position that the first stored prompts do not reach."""
    name = next(one.name for one in file.graph.initializer if list(one.dims)[-2:] == [77, 32])

    def doubled(values: Array) -> None:
        values.reshape(77, 32)[70] *= 2

    file.change(name, doubled)


def test_the_graph_is_asked_with_a_text_that_fills_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    model = causal_model(tmp_path, monkeypatch)
    bundle = mcd.export(model, "onnx", "fp16", tmp_path / "out", tower="text", verify=False)
    reference = compute_reference(model, Reference.read(bundle.golden).inputs)
    own = subject(bundle, model, reference, tmp_path / "again")
    text = own.towers["text"]
    assert [check.status for check in (*check_weights(text), *check_graph(text))] == ["passed", "passed"]

    planted = replace(own, bundle=Bundle(tmp_path / "planted", bundle.manifest))
    edited(bundle.artifact("text"), late_position, planted.bundle.artifact("text"))
    check_weights(planted.towers["text"])
    (check,) = check_graph(planted.towers["text"])
    assert check.status == "failed"
