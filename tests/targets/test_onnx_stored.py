"""The weights of ONNX files as they are read back, and what a file computes with them in float32."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from writing import job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.grids.decode import StoredWeight
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import layers
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.towers.tower import make_tower

pytestmark = pytest.mark.usefixtures("stored_conversions")

TARGET = get_target("onnx")
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> MobileCLIP:
    torch.set_num_threads(1)
    return Source.of(mcd.load_model()).folded().model


def nearest(weight: Floats, stored: tuple[StoredWeight, ...]) -> StoredWeight:
    """The stored weight that is this one, among those with as many rows and numbers, however its kernel is written."""
    same = [one for one in stored if one.values.size == weight.size and len(one.values) == len(weight)]
    return min(same, key=lambda one: float(np.abs(one.values.reshape(weight.shape) - weight).max()))


def converted(model: MobileCLIP, tower: TowerName, precision: str, folder: Path) -> Path:
    TARGET.write(job_of(model, tower, precision), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w8a8", "w4"])
@pytest.mark.parametrize("tower", TOWERS)
def test_every_layer_stands_in_the_file_on_its_grid(
    model: MobileCLIP, tower: TowerName, precision: str, tmp_path: Path
) -> None:
    stored, module = TARGET.open(converted(model, tower, precision, tmp_path)).weights, make_tower(model, tower)
    assert stored is not None
    grids, found = storage_of(TARGET, tower, module, precision), set()
    for layer in layers(module):
        if layer.module is None:  # a mask
            continue
        weight = layer.weight.detach().numpy()
        held, grid = nearest(weight, stored), grids[layer.parameter]
        found.add(id(held))
        assert (held.kind, held.bits) == (grid.kind, grid.bits)
        wanted = weight.reshape(held.values.shape)
        np.testing.assert_array_equal(held.nearest(held.values), held.values)
        # Half a step of the largest number of an output at 8 bits; a block's scale at 4 bits is searched for.
        share = {32: 0.0, 16: 2**-11, 8: 0.5 / 127, 4: 0.2}[held.bits]
        largest = np.abs(wanted).max(axis=tuple(range(1, wanted.ndim)), keepdims=True)
        assert (np.abs(held.values - wanted) <= share * largest + 1e-7 * np.abs(wanted)).all()
        assert (np.abs(held.nearest(wanted) - wanted) <= np.abs(held.values - wanted) + 1e-7 * largest).all()
    assert len(found) == sum(layer.module is not None for layer in layers(module))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8", "w8a8", "w4"])
@pytest.mark.parametrize("tower", TOWERS)
def test_in_float32_a_file_computes_what_torch_does_with_its_numbers(
    model: MobileCLIP, tower: TowerName, precision: str, tmp_path: Path
) -> None:
    path, module = converted(model, tower, precision, tmp_path), copy.deepcopy(make_tower(model, tower))
    stored = TARGET.open(path).weights
    assert stored is not None
    if precision == "fp16":
        module = module.half().float()  # biases, norms and positions too
    for layer in layers(module):
        if isinstance(layer.module, nn.Module):
            weight = layer.weight.detach()
            held = nearest(weight.numpy(), stored).values.reshape(weight.shape)
            layer.module.weight = nn.Parameter(torch.from_numpy(held.copy()))
    inputs = sample_inputs(model).of(tower)[:8]
    given = torch.from_numpy(inputs)
    with torch.no_grad():
        wanted = module.double()(given.double() if tower == "image" else given).numpy()
    runner = TARGET.open(path).plain_runner()
    assert runner is not None
    error = np.linalg.norm(runner(inputs) - wanted) / np.linalg.norm(wanted)
    # What torch holds otherwise: the scale of attention is a float16, static biases are whole steps of int32 sums.
    known = {("image", "fp16"): 1e-5, ("text", "fp16"): 4e-5, ("image", "w8a8"): 4e-3}
    assert error < known.get((tower, precision), 1.5e-6)
