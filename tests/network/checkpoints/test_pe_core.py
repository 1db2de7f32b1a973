"""PE-Core's rotary positions are timm's with the pairs apart, and its ids open_clip's."""

import open_clip
import pytest
import torch
from network.checkpoints.test_filled_towers import NAMES, PE_CORE, PROMPTS
from timm.layers import create_rope_embed

from mobileclip_deploy.network.checkpoints.keymap import pairs_apart
from mobileclip_deploy.network.model.architecture.attention import rotary_turns
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import load_variant


@pytest.mark.slow
@pytest.mark.parametrize("variant", PE_CORE)
def test_the_same_ids_of_prompts(variant: str) -> None:
    own = torch.from_numpy(encode(PROMPTS, load_variant(variant).tokens))
    assert own.shape == (len(PROMPTS), 32)
    assert torch.equal(own, open_clip.get_tokenizer(NAMES[variant])(PROMPTS))


def test_turns_are_timm_s_with_the_pairs_apart() -> None:
    rope = create_rope_embed(
        dim=192, num_heads=3, feat_shape=(24, 24), in_pixels=False, grid_offset=1.0, ref_feat_shape=(24, 24),
        grid_indexing="xy",
    )  # fmt: skip
    sines, cosines = rope.get_embed().chunk(2, -1)
    ours = rotary_turns(24, 24, 64, skipped=1)
    for own, theirs in zip(ours, (cosines, sines), strict=True):
        assert torch.equal(own[1:], torch.cat((theirs[:, ::2], theirs[:, 1::2]), dim=-1))
    assert torch.equal(ours[0][0], torch.ones(64))


def test_turns_are_scaled_to_the_grid_that_was_trained() -> None:
    small, large = (rotary_turns(side, 24, 64, skipped=1)[1] for side in (12, 24))
    assert small.shape == (145, 64)
    assert torch.equal(small[0], torch.zeros(64))
    assert torch.equal(small[1:].reshape(12, 12, 64)[5, 3], large[1:].reshape(24, 24, 64)[11, 7])


@pytest.mark.parametrize("shape", [(24,), (24, 5)])
def test_pairs_move_apart_and_back(shape: tuple[int, ...]) -> None:
    there = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    move = pairs_apart(heads=2)
    ours = move.ours(there)
    assert torch.equal(move.theirs(ours), there)
    rows = ours.reshape(24, -1)[:, 0] / (shape[1] if len(shape) > 1 else 1)
    assert rows.tolist() == [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, *range(16, 24)]
