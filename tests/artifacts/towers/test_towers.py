"""The towers as they are exported answer as the model does: mean and std inside, pooling at the end-of-text token."""

import pytest
import torch
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import ImageTower, example_input, make_tower
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.inputs import Inputs, sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import compare

BOUND = 2e-6
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


@pytest.fixture(scope="module")
def model(exports: Exports) -> MobileCLIP:
    """The built-in network, folded."""
    model = mcd.load_model(None, exports.checkpoint)
    mcd.reparameterize(model)
    return model


@pytest.fixture(scope="module")
def inputs(model: MobileCLIP) -> Inputs:
    return sample_inputs(model)


def deviation(wanted: torch.Tensor, found: torch.Tensor) -> float:
    return compare(wanted.numpy(), found.numpy()).relative


@torch.no_grad()
def test_the_image_tower_takes_pixels_before_mean_and_std(
    model: MobileCLIP, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = model.variant.preprocess.model_copy(update=CLIP)
    monkeypatch.setattr(model, "variant", model.variant.model_copy(update={"preprocess": preprocess}))
    pixels = torch.from_numpy(inputs.pixels)
    wanted = model.encode_image(normalize(pixels, preprocess))
    assert deviation(wanted, make_tower(model, "image")(pixels)) <= BOUND
    assert deviation(wanted, model.encode_image(pixels)) > 100 * BOUND  # or mean and std would not matter


@torch.no_grad()
def test_the_text_tower_takes_ids_of_either_integer_type(model: MobileCLIP, inputs: Inputs) -> None:
    ids = torch.from_numpy(inputs.ids)
    wanted, tower = model.encode_text(ids), make_tower(model, "text")
    assert deviation(wanted, tower(ids)) <= BOUND
    assert torch.equal(tower(ids.int()), tower(ids))


@torch.no_grad()
def test_text_is_pooled_at_the_first_end_of_text_whatever_follows(model: MobileCLIP) -> None:
    tower = make_tower(model, "text")
    ids = example_input(model, "text").repeat(2, 1)
    ids[:, 1:4] = torch.tensor([320, 1125, tower.eot])
    ids[1, 5:7] = tower.eot
    features = tower.encoder.features(ids)
    wanted = tower.encoder.projection(tower.encoder.final_norm(features[torch.arange(2), 3]))
    assert deviation(wanted, tower(ids)) <= BOUND


@torch.no_grad()
@pytest.mark.parametrize("name", ["image", "text"])
def test_an_answer_does_not_depend_on_the_batch(model: MobileCLIP, inputs: Inputs, name: TowerName) -> None:
    tower, batch = make_tower(model, name), torch.from_numpy(inputs.of(name))[:5]
    one_by_one = torch.cat([tower(row[None]) for row in batch])
    assert deviation(one_by_one, tower(batch)) <= BOUND


def test_a_tower_shares_the_models_weights_and_is_in_eval_mode(model: MobileCLIP) -> None:
    tower = make_tower(model, "image")
    assert isinstance(tower, ImageTower)
    assert tower.encoder is model.image
    assert not any(module.training for module in tower.modules())


@pytest.mark.parametrize(("name", "shape"), [("image", (1, 3, 64, 64)), ("text", (1, 77))])
def test_an_example_has_the_shape_of_the_input(model: MobileCLIP, name: TowerName, shape: tuple[int, ...]) -> None:
    assert tuple(example_input(model, name).shape) == shape


def test_an_unfolded_model_is_refused(exports: Exports) -> None:
    with pytest.raises(UsageError, match="reparameterize"):
        make_tower(mcd.load_model(None, exports.checkpoint), "image")
