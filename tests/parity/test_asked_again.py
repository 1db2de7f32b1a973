"""When a bundle is verified its stored answers are confirmed: in float64 those that are furthest from float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_variant

from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.parity import compare
from mobileclip_deploy.parity.computing import EXACT, compute_again, compute_reference
from mobileclip_deploy.parity.reference import Reference


def asked(count: int) -> tuple[MobileCLIP, Reference]:
    torch.manual_seed(0)
    model = build_model(tiny_variant("tiny_patch")).eval()
    pixels = np.random.default_rng(0).random((count, 3, 64, 64), np.float32)
    ids = np.tile(np.array([[90, 5, 91, 0, 0, 0, 0, 0]]), (count, 1))
    ids[:, 1] = np.arange(count) + 1
    names = tuple(map(str, range(count)))
    return model, compute_reference(model, Inputs(names, names, pixels, ids))


def test_right_answers_are_confirmed_to_the_bit_by_those_that_decide_the_floor() -> None:
    model, stored = asked(2 * EXACT)
    fresh, found = compute_again(model, stored)
    for tower in ("image", "text"):
        np.testing.assert_array_equal(found.of(tower), stored.of(tower))
        assert fresh.floor[tower] == found.floor[tower] == pytest.approx(stored.floor[tower], rel=1e-6)
        same = (fresh.of(tower) == stored.of(tower)).all(axis=1)
        assert EXACT <= same.sum() < 2 * EXACT
        assert compare(fresh.of(tower), stored.of(tower)).relative < stored.floor[tower]


@pytest.mark.parametrize("wrong", [1.01, 1 + 1e-5, -1.0, 0.0, np.nan])
@pytest.mark.parametrize("row", [0, 5, 11])
def test_a_wrong_answer_is_among_those_that_are_asked_again_exactly(row: int, wrong: float) -> None:
    model, stored = asked(2 * EXACT)
    answers = stored.of("image").copy()
    answers[row] *= np.float32(wrong)
    fresh, found = compute_again(model, replace(stored, embeddings=stored.embeddings | {"image": answers}))
    np.testing.assert_array_equal(fresh.of("image")[row], stored.of("image")[row])
    np.testing.assert_array_equal(found.of("image"), stored.of("image"))
    assert fresh.floor["image"] <= stored.floor["image"] * (1 + 1e-6)
    apart = compare(fresh.of("image"), answers).relative
    assert not apart <= 5 * stored.floor["image"]


def test_answers_of_another_size_stand_for_nothing() -> None:
    model, stored = asked(2)
    _, found = compute_again(model, replace(stored, embeddings={"image": stored.of("image")[:, :5]}))
    for tower in ("image", "text"):
        np.testing.assert_array_equal(found.of(tower), stored.of(tower))
