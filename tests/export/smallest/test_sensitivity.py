"""Bits layer by layer: each is measured alone, and the mixes take first what costs least."""

import numpy as np
import pytest
import torch
from torch import nn
from writing import chosen

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.export.smallest.candidates import four_bit_layers, tower_choices
from mobileclip_deploy.export.smallest.sensitivity import Layer, measure_layers, mixes
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.storage import THRESHOLD


def tower() -> nn.Module:
    """Two products, the second with one output row that dwarfs the grid of its block."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False), nn.Linear(64, 8))
    with torch.no_grad():
        module[1].weight[:, ::32] *= 60
    return module.eval()


def test_a_layer_is_measured_alone_and_left_as_it_was() -> None:
    module = tower()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    inputs = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    layers = measure_layers(module, inputs, {"0.weight", "1.weight"})
    assert [layer.name for layer in layers] == ["0.weight", "1.weight"]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert [layer.sha256 for layer in layers] == [weight_sha256(before[layer.name].numpy()) for layer in layers]
    assert all(0 < layer.noise < 1 for layer in layers)
    assert measure_layers(module, inputs, {"0.weight", "1.weight"}) == layers


@pytest.mark.once("target")
@pytest.mark.parametrize(("target", "tower"), [(name, tower) for name in ("coreml", "onnx") for tower in TOWERS])
def test_a_target_is_asked_for_no_layer_that_it_cannot_store_at_4_bits(target: str, tower: TowerName) -> None:
    model = mcd.load_model()
    mcd.reparameterize(model)
    module = make_tower(model, tower)
    names = four_bit_layers(get_target(target), tower, module)
    shapes = {name: weight.shape for name, weight in module.named_parameters()}
    assert not any(len(shapes[name]) == 4 and shapes[name][1] == 1 for name in names)  # depthwise
    assert all(shapes[name].numel() > THRESHOLD for name in names)
    assert "encoder.positional_embedding" not in names
    assert ("encoder.projection.weight" in names) is (target == "coreml")
    convolution = "encoder.stages.2.blocks.0.ffn.fc1.weight" if tower == "image" else "encoder.blocks.0.ffn.fc1.weight"
    assert (convolution in names) is (target == "coreml" or tower == "text")  # ONNX writes the text tower's as products
    assert ("encoder.token_embedding.weight" in names) is (tower == "text")


def layer(name: str, noise: float, weights: int = 10_000) -> Layer:
    return Layer(name=name, sha256=content_sha256(name.encode()), weights=weights, noise=noise)


def test_mixes_grow_smaller_and_leave_the_most_sensitive_at_8_bits() -> None:
    found = mixes([layer("worst", 0.2), layer("bad", 0.03), layer("good", 0.001), layer("best", 0.0001)])
    assert found == [frozenset({"bad", "good", "best"}), frozenset({"good", "best"})]
    found = mixes([layer("table", 0.004, 1_000_000), layer("product", 0.002), layer("other", 0.001)])
    assert found == [frozenset({"table", "other"}), frozenset({"product", "other"}), frozenset({"other"})]
    assert mixes([]) == []
    assert mixes([layer("one", 0.0001)]) == []


@pytest.mark.parametrize(("deployment_target", "mixed"), [(None, True), ("iOS18", True), ("iOS16", False)])
def test_a_mix_is_no_candidate_where_the_system_is_too_old(deployment_target: str | None, mixed: bool) -> None:
    layers = [layer("0.weight", 0.2), layer("1.weight", 0.001)]
    target = chosen("coreml", deployment_target=deployment_target)
    choices = tower_choices(target, "image", tower(), layers)
    assert ("mixed" in [choice.precision for choice in choices]) is mixed
    sizes = [choice.predicted for choice in choices]
    assert sizes == sorted(sizes)
