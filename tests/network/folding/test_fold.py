"""The whole fold: what it refuses, what it reports, and that rounding is stated."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from folding_support import trained
from tiny import tiny_variant

from mobileclip_deploy.errors import FoldingError
from mobileclip_deploy.network.folding import PASSES, fold, fold_structure, is_folded
from mobileclip_deploy.network.folding.branches import FoldMobileOne
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.variants import load_variant, variant_names

IMAGES = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[90, 5, 6, 91, 0, 0, 0, 0], [90, 91, 0, 0, 0, 0, 0, 0]])


@pytest.fixture
def model() -> MobileCLIP:
    """A small MCi and mct model with trained-looking weights, float64."""
    return trained(build_model(tiny_variant("tiny_mci")))


def test_report_counts_every_pass_and_measures_the_deviation(model: MobileCLIP) -> None:
    report = fold(model, IMAGES, IDS)
    assert [record.name for record in report.passes] == [one.name for one in PASSES]
    of_a_vit = {"pooled-query"}
    assert {record.name for record in report.passes if record.folded == 0} == of_a_vit
    assert report.changed
    assert report.batch_norms_after == 0 < report.batch_norms_before
    assert report.parameters_after < report.parameters_before
    assert report.modules_after < report.modules_before
    assert report.deviation < 1e-9
    assert report.as_dict()["deviation"] == report.deviation


def test_folding_twice_changes_nothing(model: MobileCLIP) -> None:
    fold(model)
    again = fold(model, IMAGES, IDS)
    assert not again.changed
    assert again.deviation is None
    assert again.parameters_before == again.parameters_after


REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "training mode": (lambda model: model.train(), r"training mode.*model\.eval\(\)"),
    "one block in training mode": (lambda model: model.image.stages[1].blocks[0].train(), "training mode"),
    "half folded": (lambda model: FoldMobileOne().apply(model.image.stem), "half-folded"),
    "one pass done and another not": (lambda model: FoldMobileOne().apply(model), "half-folded: mobileone done"),
    "a BatchNorm that no pass knows": (
        lambda model: setattr(model.image, "projection", torch.nn.Sequential(torch.nn.BatchNorm1d(128)).eval()),
        "1 BatchNorms are left",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_is_refused(model: MobileCLIP, case: str) -> None:
    change, says = REFUSED[case]
    change(model)
    with pytest.raises(FoldingError, match=says):
        fold(model)


def test_a_fold_that_changes_the_output_is_caught(model: MobileCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FoldMobileOne.fold

    def careless(self: FoldMobileOne, module: torch.nn.Module) -> None:
        honest(self, module)
        with torch.no_grad():
            module.conv.bias += 0.1  # type: ignore[operator,union-attr]

    monkeypatch.setattr(FoldMobileOne, "fold", careless)
    with pytest.raises(FoldingError, match="mobileone fold changed the embeddings"):
        fold(model, IMAGES, IDS)


def test_float32_is_rounded_once_per_layer(model: MobileCLIP) -> None:
    single = model.float()
    double = copy.deepcopy(single).double()
    fold(single)
    fold(double)
    assert {parameter.dtype for parameter in single.parameters()} == {torch.float32}
    exact = double.state_dict()
    for name, weight in single.state_dict().items():
        # Equal to a float64 fold that is rounded at its end; RepMixer takes a MobileOne block that is already rounded.
        twice = 2**-23 * float(exact[name].abs().max()) if ".token_mixer." in name else 0
        torch.testing.assert_close(weight, exact[name].float(), rtol=0, atol=twice)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_alone_folds(tower: str) -> None:
    model = trained(build_model(tiny_variant("tiny_mci"), towers=(tower,)))
    report = fold(model, IMAGES, IDS)
    assert report.deviation is not None
    assert report.batch_norms_after == 0


@pytest.mark.once(by=lambda given: load_variant(str(given["name"])).image.kind)
@pytest.mark.parametrize("name", variant_names())
def test_every_variant_folds_to_no_branch_and_no_batch_norm(name: str) -> None:
    model = fold_structure(build_model(load_variant(name), "meta"))
    assert is_folded(model)
    assert not [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
