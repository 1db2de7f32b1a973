"""Shares of a batch, batches in parts, and bfloat16: what processes and small memories do to a training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import tiny_variant
from torch.nn import functional as F

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.training.reinforcement.samples import Batch
from mobileclip_deploy.training.trainer import running
from mobileclip_deploy.training.trainer.objective import AnchoredObjective, ReinforcedObjective, Towers
from mobileclip_deploy.training.trainer.processes import ALONE, Processes, joined
from mobileclip_deploy.training.trainer.recipe import Recipe

COUNT, DIMENSION = 8, 24


def recipe(**fields: Any) -> Recipe:
    given = {"version": 1, "variant": "nano", "data": Path("."), "steps": 1, "batch": COUNT, "learning_rate": 0.1}
    return Recipe.model_validate(given | fields)


def batch(seed: int = 0) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 90, (COUNT, 2, 8), generator=chance)
    ids[..., 0], ids[..., -1] = 90, 91

    def unit(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, 16, generator=chance), dim=-1)

    pixels = torch.rand(COUNT, 3, 64, 64, generator=chance)
    captions = torch.arange(2 * COUNT).reshape(COUNT, 2)
    return Batch(torch.arange(COUNT), pixels, captions, ids, (unit(COUNT),), (unit(COUNT, 2),))


def training(model: MobileCLIP, accumulate: int | None) -> running._Training:
    """What a step's gradients depend on."""
    made = object.__new__(running._Training)
    teachers: Any = SimpleNamespace(teachers=[SimpleNamespace(scale=50.0)])
    made.recipe, made.processes, made.step = recipe(accumulate=accumulate), ALONE, 0
    made.model, made.objective = model, ReinforcedObjective(teachers, 0.7)
    made.towers = made.parallel = Towers(model)
    return made


def network(name: str) -> MobileCLIP:
    torch.manual_seed(0)
    return build_model(tiny_variant(name)).train()


def test_a_batch_in_parts_has_the_gradients_of_the_whole() -> None:
    model = network("tiny_plain")
    found = []
    for parts in (None, 4):
        model.zero_grad()
        loss = training(model, parts)._gradients(batch())
        found.append(
            (loss.detach(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
        )
    (whole, wanted), (parted, gradients) = found
    torch.testing.assert_close(parted, whole)
    assert set(gradients) == set(wanted)
    assert gradients["logit_scale"] != 0
    for name, value in wanted.items():
        torch.testing.assert_close(
            gradients[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_batch_norm_counts_each_part_once() -> None:
    model = network("tiny_mci")
    training(model, 2)._gradients(batch())
    counted = {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert counted == {2}


def test_shares_have_every_pair_once_and_all_read_their_part_of_the_first_captions() -> None:
    everything = batch()
    shares = [Processes(rank, 2).share([*range(COUNT)]) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == [*range(COUNT)]
    anchored = object.__new__(AnchoredObjective)
    torch.nn.Module.__init__(anchored)
    anchored.settings = SimpleNamespace(captions=4)  # type: ignore[assignment]
    whole = anchored.read(everything)
    for rank, share in enumerate(shares):
        part = SimpleNamespace(rows=everything.rows[share], ids=everything.ids[share])
        read = anchored.read(part, rank, 2)  # type: ignore[arg-type]
        assert torch.equal(read, everything.ids[[0, 1, 2, 3], [0, 1, 0, 1]][rank::2])
        assert torch.equal(read, whole[rank::2])


@pytest.mark.parametrize(
    ("fields", "count", "words"),
    [
        ({"batch": 9}, 2, "a batch of 9 cannot be divided among 2 processes in 1 parts each; use a multiple of 2"),
        ({"accumulate": 3}, 1, "a batch of 8 cannot be divided among 1 processes in 3 parts each; use a multiple of 3"),
        (
            {"anchors": {"captions": 3}, "distillation": 0},
            2,
            "3 captions of anchors cannot be divided among 2 processes; use a multiple of that",
        ),
    ],
)
def test_a_batch_that_cannot_be_dealt_out_is_refused(fields: dict[str, Any], count: int, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        running._check_shares(recipe(**fields), Processes(0, count))
    assert refused.value.line == words


def test_in_bfloat16_towers_say_nearly_the_same_in_float32() -> None:
    model, everything = network("tiny_plain").eval(), batch()
    ids = everything.ids[:, 0]
    whole, half = (Towers(model, autocast)(everything.pixels, ids) for autocast in (False, True))
    for exact, rounded in zip(whole[:2], half[:2], strict=True):
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        assert (exact * rounded).sum(1).min() > 0.99


def test_a_device_that_is_not_to_be_had_is_refused() -> None:
    with (
        pytest.raises(UsageError, match=r"unknown device 'abacus'; use cpu, or cuda"),
        joined("abacus"),
    ):
        pass
