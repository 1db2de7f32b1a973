"""All thirteen golden checkpoints answer as the reference implementations do, before and after folding."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from filling import Filling
from golden_checkpoints import GOLDEN_NAMES, GoldenCheckpoint, relative_errors
from tiny import same_network
from torch import Tensor, nn

from mobileclip_deploy.network.checkpoints.identity import identify
from mobileclip_deploy.network.checkpoints.loading import assemble
from mobileclip_deploy.network.checkpoints.tensor_files import TensorFile
from mobileclip_deploy.network.folding import FoldReport, count, fold, is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, load_variant

FLOAT64_BOUND = 1e-9
IN_FLOAT64 = ("mobileclip-s0.apple", "mobileclip-b.apple")  # one of each kind of image tower
Embeddings = dict[TowerName, Tensor]


@dataclass
class Run:
    """A golden checkpoint that went through loading and folding, with the embeddings before and after."""

    golden: GoldenCheckpoint
    file: TensorFile
    model: MobileCLIP
    before: Embeddings
    after: Embeddings
    report: FoldReport
    batch_norms_before: int
    float64_deviation: float | None

    def error(self, embeddings: Embeddings, tower: TowerName) -> float:
        """The largest relative one, from what the reference answers."""
        return relative_errors(embeddings[tower], self.golden.arrays[f"{tower}_embeddings"])


@torch.no_grad()
def embed(model: MobileCLIP, tower: TowerName, inputs: Tensor) -> Tensor:
    return model.encode_image(inputs) if tower == "image" else model.encode_text(inputs)


def twin(model: MobileCLIP) -> MobileCLIP:
    """A copy of the same tensors, which are not written to: folding and `double` put others in their place."""
    shared = {id(value): nn.Parameter(value.data, requires_grad=False) for value in model.parameters()}
    return copy.deepcopy(model, shared | {id(value): value for value in model.buffers()})


def float64_deviation(model: MobileCLIP, golden: GoldenCheckpoint, towers: list[TowerName]) -> float:
    """How far folding in float64 moves the embeddings of the towers that it changes, relative.

    With one image and two prompts; `model`, which is not folded yet, is so afterwards.
    """
    model.double()
    inputs: Embeddings = {"image": golden.images[2:].double(), "text": golden.tokens[:2]}
    before = {tower: embed(model, tower, inputs[tower]) for tower in towers}
    fold(model)
    return max(relative_errors(embed(model, tower, inputs[tower]), before[tower]) for tower in towers)


# Of S1, S2 and B the other layout holds the same networks: network/checkpoints/test_keymaps.py compares the names.
NAMES = [name for name in GOLDEN_NAMES if name not in {f"mobileclip-{size}.openclip" for size in ("s1", "s2", "b")}]
pytestmark = pytest.mark.once  # Apple's S0; network/checkpoints/test_keymaps.py has the other layout's names


@pytest.fixture(scope="module")
def filling() -> Filling:
    return Filling(NAMES)


@pytest.fixture(scope="module", params=sorted(NAMES, key=lambda name: "-s0." not in name))
def run(request: pytest.FixtureRequest, filling: Filling) -> Iterator[Run]:
    """Each golden in turn, folded once; the one before is dropped first, S4 alone has 1.8 GB."""
    golden = GoldenCheckpoint(request.param)
    file = filling.file(golden)
    model = assemble(identify(file, load_variant(golden.variant)))
    before = {tower: embed(model, tower, golden.inputs(tower)) for tower in TOWERS}
    batch_norms = count(model).batch_norms
    unfolded = twin(model)
    report = fold(model)
    # Where there was nothing to fold, a tower is the one just measured; in most text towers there is nothing.
    changed = [tower for tower in TOWERS if not same_network(getattr(model, tower), getattr(unfolded, tower))]
    assert bool(changed) == report.changed
    after = before | {tower: embed(model, tower, golden.inputs(tower)) for tower in changed}
    deviation = float64_deviation(unfolded, golden, changed) if request.param in IN_FLOAT64 else None
    del unfolded
    yield Run(golden, file, model, before, after, report, batch_norms, deviation)
    filling.done(golden)


def test_the_inputs_are_the_golden_ones(run: Run) -> None:
    total, value = run.golden.arrays["image_digest"].tolist()
    assert run.golden.images.double().sum().item() == pytest.approx(total, rel=1e-6)
    assert run.golden.images[2, 1, 5, 7].item() == pytest.approx(value, rel=1e-6)


def test_every_parameter_is_there(run: Run) -> None:
    assert run.report.parameters_before == run.golden.card["params"]


def test_embeddings_are_the_references_before_and_after_folding(run: Run) -> None:
    for tower in TOWERS:
        assert run.error(run.before, tower) <= run.golden.bound(tower)
        assert run.error(run.after, tower) <= run.golden.bound(tower)


def test_no_batch_norm_is_left(run: Run) -> None:
    assert run.report.batch_norms_before == run.batch_norms_before
    assert count(run.model).batch_norms == 0
    assert is_folded(run.model)


def test_folding_in_float64_changes_nothing(run: Run) -> None:
    if run.float64_deviation is None:
        assert run.golden.name not in IN_FLOAT64  # the folds of the others are the same code
    else:
        assert run.float64_deviation <= FLOAT64_BOUND


def test_folding_again_changes_nothing(run: Run) -> None:
    before = {name: value.data_ptr() for name, value in run.model.state_dict().items()}
    assert not fold(run.model).changed
    assert {name: value.data_ptr() for name, value in run.model.state_dict().items()} == before


def test_the_variant_is_told_from_the_keys(run: Run) -> None:
    identity = identify(run.file)
    assert identity.layout == run.golden.layout
    assert identity.towers == ("image", "text")
    assert identity.variant.name == run.golden.variant
