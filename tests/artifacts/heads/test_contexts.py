"""Contexts: which lengths a text tower may take, and which of them a prompt gets."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny import tiny_variant

from mobileclip_deploy.artifacts.heads.contexts import ContextRunner, chosen_contexts, fitting, parse_contexts
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.variants import TokenizerSpec, load_variant, variant_names

SMALL = TokenizerSpec(vocab_size=92, context_length=8, sot=90, eot=91)
ROWS = np.array(
    [
        [90, 1, 91, 0, 0, 0, 0, 0],
        [90, 1, 2, 91, 0, 0, 0, 0],
        [90, 1, 2, 3, 91, 91, 0, 0],
        [90, 1, 2, 3, 4, 5, 6, 91],
        [90, 1, 2, 3, 4, 5, 6, 7],
    ]
)


def test_a_prompt_gets_the_shortest_context_that_holds_its_end() -> None:
    assert fitting(ROWS, (4, 6, 8), SMALL).tolist() == [4, 4, 6, 8, 8]
    assert fitting(ROWS, (3, 8), SMALL).tolist() == [3, 8, 8, 8, 8]
    assert fitting(ROWS[:, :4], (3, 6, 8), SMALL).tolist() == [3, 4, 4, 4, 4]  # of ids that were cut already


def test_a_runner_asks_each_context_once_and_keeps_the_order() -> None:
    asked: list[list[list[int]]] = []

    def run(ids: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        asked.append(ids.tolist())
        return ids[:, 1:3].astype(np.float32)

    runner = ContextRunner(run, "counted", (4, 6, 8), SMALL)
    assert np.array_equal(runner(ROWS), ROWS[:, 1:3])
    assert asked == [ROWS[:2, :4].tolist(), ROWS[2:3, :6].tolist(), ROWS[3:].tolist()]


@pytest.mark.parametrize("length", [4, 5, 8])
def test_a_causal_tower_gives_the_same_embedding_at_every_length_that_holds_the_prompt(length: int) -> None:
    model = build_model(tiny_variant("tiny_later"))
    fold(model)
    tower, short = make_tower(model, "text"), make_tower(model, "text", short=True)
    ids = torch.from_numpy(ROWS[:2])
    with torch.no_grad():
        wanted, found = tower(ids), short(ids[:, :length])
    assert float((found - wanted).norm() / wanted.norm()) < 1e-6


def test_a_bidirectional_tower_does_not_and_is_refused() -> None:
    model = build_model(tiny_variant("tiny_both"))
    fold(model)
    ids = torch.from_numpy(ROWS[:2])
    with torch.no_grad():
        wanted, found = make_tower(model, "text")(ids), make_tower(model, "text", short=True)(ids[:, :4])
    assert float((found - wanted).norm() / wanted.norm()) > 1e-3
    with pytest.raises(UsageError, match="the text tower of nano is bidirectional: padding is part of the model"):
        chosen_contexts(load_variant("nano"), (16,))


def test_the_variants_whose_prompts_can_be_short() -> None:
    texts = {name: load_variant(name).text for name in variant_names()}
    causal = [name for name, text in texts.items() if text is not None and text.causal]
    apple = [name for name in causal if not name.startswith(("clip_", "dfn_", "tinyclip_", "pe_core_"))]
    assert apple == ["mobileclip2_b", "mobileclip_b", "mobileclip_blt"]
    assert all(chosen_contexts(load_variant(name), (24, 16)) == (16, 24, 32) for name in causal if "pe_" in name)
    assert all(chosen_contexts(load_variant(name), (32, 16)) == (16, 32, 77) for name in causal if "pe_" not in name)
    assert chosen_contexts(load_variant("nano"), ()) == ()


def test_lengths_that_are_none_are_refused() -> None:
    assert parse_contexts("16, 32,77") == (16, 32, 77)
    assert parse_contexts(None) == ()
    with pytest.raises(UsageError, match="`contexts` 16,x: write lengths in tokens with commas"):
        parse_contexts("16,x")
    for length in (3, 78):
        with pytest.raises(UsageError, match=f"`contexts` {length}: mobileclip_b takes lengths from 4 to 77 tokens"):
            chosen_contexts(load_variant("mobileclip_b"), (16, length))
