"""Weights as they stand in the files of every target: the checkpoint's, on the grids that their storage says."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conversions import Store
from faults.files import FILES, Files, levels
from targets.mil.programs import build
from torch import nn

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import stored_in_half, total_bytes
from mobileclip_deploy.verify.instruments.matching import matched_weights


@pytest.fixture(scope="module")
def files(store: Store) -> Files:
    return Files(store)


def off(module: nn.Module) -> nn.Module:
    """The tower with weights that are a tenth larger."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(1.1)
    return other


@pytest.mark.once("target")
@pytest.mark.parametrize(("target", "tower", "precision"), [pytest.param(*file, marks=levels(*file)) for file in FILES])
def test_every_weight_is_read_back_on_its_grid(files: Files, target: str, tower: TowerName, precision: str) -> None:
    module, (own, name) = make_tower(files.network(target), tower), files.target(target, precision)
    storage = storage_of(own, tower, module, name)
    path = files.path(target, tower, precision)
    stored = own.open(path).weights
    found, missing = matched_weights(module, stored)
    assert not missing
    wrong = {match.layer: match.wrong(storage[match.layer], stored_in_half(storage)) for match in found}
    assert {layer: text for layer, text in wrong.items() if text is not None} == {}
    assert all(np.array_equal(weight.nearest(weight.values), weight.values) for weight in stored)
    if target in ("onnx", "executorch"):  # of nano's whole network, beside which the graph is small
        assert path.stat().st_size == pytest.approx(total_bytes(module, storage), rel=0.1)
    others, _ = matched_weights(off(module), stored)
    assert all(match.wrong(storage[match.layer], half=True) for match in others)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_products_weight_in_core_ml_is_given_with_outputs_first(transposed: bool, tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)  # [outputs, inputs]

    def body(mb: Any, x: Any) -> Any:
        return mb.matmul(x=x, y=weight if transposed else weight.T, transpose_y=transposed)

    path = build(tmp_path / "a.mlpackage", {"x": ((1, 3), "float32")}, body)
    weights = get_target("coreml").open(path).weights
    assert weights is not None
    (found,) = weights
    np.testing.assert_array_equal(found.values, weight)
    np.testing.assert_array_equal(found.nearest(weight + 0.5), weight + 0.5)
