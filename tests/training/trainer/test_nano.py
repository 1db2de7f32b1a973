"""The built-in checkpoint: what is committed is whole, small, conditioned for float16, and as good as its card says."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import read_card
from mobileclip_deploy.training.trainer.recipe import read_recipe

NANO = Path(__file__).parents[3] / "models" / "nano"
EVALUATION = NANO / "evaluation"
WEIGHTS = NANO / "weights.safetensors"
LARGEST_FILE = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    """The evaluation set's rows."""
    return [json.loads(line) for line in (EVALUATION / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def model() -> MobileCLIP:
    """The committed weights in training form."""
    return load(WEIGHTS, "nano")


@pytest.fixture
def recipe_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes models/nano's scripts importable for one test."""
    monkeypatch.syspath_prepend(str(NANO))
    yield
    for name in ("publish", "widen"):
        sys.modules.pop(name, None)


def test_weights_can_be_packaged_are_in_training_form_and_name_their_licence() -> None:
    assert WEIGHTS.stat().st_size <= LARGEST_FILE
    with safe_open(WEIGHTS, "pt") as file:
        keys, metadata = list(file.keys()), file.metadata()
    assert all(key.startswith(("image_encoder.model.", "text_encoder.")) for key in keys if key != "logit_scale")
    assert not any("reparam" in key for key in keys)
    assert metadata == {"variant": "nano", "layout": "apple", "form": "training", "licence": "CC-BY-SA-4.0"}


@torch.no_grad()
@pytest.mark.usefixtures("recipe_modules")
def test_weights_are_conditioned_for_float16_without_changing_what_they_compute() -> None:
    from publish import condition  # type: ignore[import-not-found]

    model = load(WEIGHTS, "nano").double()
    thin = model.image.stem[1].scale  # type: ignore[union-attr]
    thin.conv.weight.mul_(1e-3)
    thin.bn.running_mean.mul_(1e-3)
    thin.bn.running_var.mul_(1e-6)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = model.encode_image(pixels)
    assert thin.bn.running_var.max() < 1e-4
    condition(model)
    assert thin.bn.running_var.min() > 5e-3
    assert (model.encode_image(pixels) - before).abs().max() < 1e-12 * before.abs().max()


def test_the_evaluation_set_has_a_picture_and_a_caption_a_concept_that_the_tower_can_tell_apart(
    pairs: list[dict[str, Any]],
) -> None:
    assert len(pairs) == 1911
    assert len({row["text"] for row in pairs}) == len({row["image"] for row in pairs}) == len(pairs)
    assert {path.name for path in (EVALUATION / "images").iterdir()} == {Path(row["image"]).name for row in pairs}
    classes = (EVALUATION / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert classes == sorted({row["label"] for row in pairs})
    for row in pairs:
        with Image.open(EVALUATION / row["image"]) as image:
            image.load()
            assert image.size == (64, 64), row["image"]
    ids = encode([row["text"] for row in pairs])
    assert (ids[:, -1] == 0).all()
    assert len({row.tobytes() for row in ids}) == len(pairs)


@pytest.mark.slow
@pytest.mark.usefixtures("recipe_modules")
def test_figures_on_the_card_are_those_of_the_committed_weights(model: MobileCLIP) -> None:
    from publish import figures

    stated = json.loads((NANO / "figures.json").read_text(encoding="utf-8"))
    assert stated.pop("weights") == WEIGHTS.name
    found = figures(model)
    assert set(stated) == set(found)
    for name, value in found.items():
        # One image in 1,911 is 0.05 points: rounding on another processor may move a tie or two.
        assert stated[name] == pytest.approx(value, abs=0.16), name


def test_every_run_has_a_recipe_of_three_kinds_and_begins_with_another_run() -> None:
    files = sorted((NANO / "recipes").glob("*.yaml"))
    runs = {file.stem for file in files}
    assert runs == {"long", "wide", *(f"run{number}" for number in range(1, 9))}
    kinds = set()
    for file in files:
        recipe = read_recipe(file)
        kinds.add((recipe.distillation > 0, recipe.anchors is not None))
        assert (recipe.start is None) == (file.stem == "run1"), file.name
        if recipe.start is not None:
            assert recipe.start.parent.name in runs, file.name
            assert (recipe.start.name == "doubled.safetensors") == (recipe.variant == "nano_wide"), file.name
    assert kinds == {(True, False), (False, False), (False, True)}


@torch.no_grad()
@pytest.mark.usefixtures("recipe_modules")
def test_a_widened_network_begins_as_the_same_function_and_its_channels_can_part(
    model: MobileCLIP, pairs: list[dict[str, Any]]
) -> None:
    from widen import widened  # type: ignore[import-not-found]

    wide = build_model(read_card(NANO / "teachers" / "nano_wide.json")).eval()
    wide.load_state_dict(widened(model.state_dict(), wide))
    ids = torch.from_numpy(encode([row["text"] for row in pairs[:8]]))
    texts, wanted = wide.encode_text(ids), model.encode_text(ids)
    assert (texts - wanted).abs().max() < 1e-5 * wanted.abs().max()
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images, wanted = wide.encode_image(pixels), model.encode_image(pixels)
    assert (images - wanted).abs().max() < 1e-5 * wanted.abs().max()
    read = wide.text.projection.weight
    assert not torch.allclose(*read.chunk(2, dim=1))
    with pytest.raises(ValueError, match="not that doubled"):
        widened(wide.state_dict(), model)
