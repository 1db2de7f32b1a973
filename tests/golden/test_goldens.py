"""All thirteen golden checkpoints answer as the reference implementations do, before and after folding."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from mobileclip_deploy.checkpoints import identify
from mobileclip_deploy.checkpoints.golden import GOLDEN_NAMES, Golden, relative_errors
from mobileclip_deploy.checkpoints.loading import assemble
from mobileclip_deploy.folding import FoldReport, count, fold, is_folded
from mobileclip_deploy.model.architecture import MobileCLIP

TEXT_BOUND = 3e-5
FLOAT64_BOUND = 1e-9
APPLE = [name for name in GOLDEN_NAMES if ".apple" in name]


@dataclass
class Run:
    """A golden checkpoint that went through loading and folding, with the embeddings before and after."""

    golden: Golden
    model: MobileCLIP
    before: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]
    report: FoldReport
    batch_norms_before: int
    float64_deviation: float | None


def embed(model: MobileCLIP, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.encode_image(images), model.encode_text(ids)


def same_network(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules compute the same: of the same parts, with the same numbers."""
    numbers, others = one.state_dict(), other.state_dict()
    return (
        repr(one) == repr(other)
        and numbers.keys() == others.keys()
        and all(torch.equal(value, others[name]) for name, value in numbers.items())
    )


def float64_deviation(model: MobileCLIP, golden: Golden) -> float:
    """How far folding in float64 moves the embeddings, relative, with one image and two prompts."""
    double, images, ids = copy.deepcopy(model).double(), golden.images[2:].double(), golden.tokens[:2]
    before = embed(double, images, ids)
    fold(double)
    return max(map(relative_errors, embed(double, images, ids), before))


@pytest.fixture(scope="module", params=GOLDEN_NAMES)
def run(request: pytest.FixtureRequest) -> Run:
    """Each golden in turn, folded once; the one before is dropped first, S4 alone has 1.8 GB."""
    golden = Golden(request.param)
    model = assemble(identify(golden.file(), golden.variant))
    before = embed(model, golden.images, golden.tokens)
    batch_norms = count(model).batch_norms
    deviation = float64_deviation(model, golden) if request.param in APPLE else None
    text = copy.deepcopy(model.text)
    report = fold(model)
    # Where there was nothing to fold, the network is the one just measured; in most text towers there is nothing.
    after = before
    if report.changed:
        with torch.no_grad():
            same = same_network(model.text, text)
            after = model.encode_image(golden.images), before[1] if same else model.encode_text(golden.tokens)
    return Run(golden, model, before, after, report, batch_norms, deviation)


def test_the_inputs_are_the_golden_ones(run: Run) -> None:
    total, value = run.golden.arrays["image_digest"].tolist()
    assert run.golden.images.double().sum().item() == pytest.approx(total, rel=1e-6)
    assert run.golden.images[2, 1, 5, 7].item() == pytest.approx(value, rel=1e-6)


def test_every_parameter_is_there(run: Run) -> None:
    assert run.report.parameters_before == run.golden.card["params"]


def test_unfolded_embeddings_are_the_references(run: Run) -> None:
    image, text = run.before
    assert relative_errors(image, run.golden.arrays["image_embeddings"]) <= run.golden.image_bound
    assert relative_errors(text, run.golden.arrays["text_embeddings"]) <= TEXT_BOUND


def test_folded_embeddings_are_the_references(run: Run) -> None:
    image, text = run.after
    assert relative_errors(image, run.golden.arrays["image_embeddings"]) <= run.golden.image_bound
    assert relative_errors(text, run.golden.arrays["text_embeddings"]) <= TEXT_BOUND


def test_no_batch_norm_is_left(run: Run) -> None:
    assert run.report.batch_norms_before == run.batch_norms_before
    assert count(run.model).batch_norms == 0
    assert is_folded(run.model)


def test_folding_in_float64_changes_nothing(run: Run) -> None:
    if run.float64_deviation is None:
        assert run.golden.name not in APPLE  # measured on Apple's four: the folds are the same code
    else:
        assert run.float64_deviation <= FLOAT64_BOUND


def test_folding_again_changes_nothing(run: Run) -> None:
    before = {name: value.data_ptr() for name, value in run.model.state_dict().items()}
    assert not fold(run.model).changed
    assert {name: value.data_ptr() for name, value in run.model.state_dict().items()} == before


def test_the_variant_is_told_from_the_keys(run: Run) -> None:
    identity = identify(run.golden.file())
    assert identity.layout == run.golden.layout
    assert identity.towers == ("image", "text")
    assert identity.variant == run.golden.variant
