"""Position tables at another image size are what open_clip and timm make of them."""

from types import SimpleNamespace

import pytest
import torch
from open_clip.model import resize_pos_embed
from timm.layers import resample_abs_pos_embed

from mobileclip_deploy.network.checkpoints.fitting import grid_side
from mobileclip_deploy.network.checkpoints.loading import resample


@pytest.mark.parametrize("side", [7, 20, 24])
@pytest.mark.parametrize("class_token", [True, False])
def test_timms(side: int, class_token: bool) -> None:
    table = torch.randn(14 * 14 + class_token, 32)
    theirs = resample_abs_pos_embed(table[None], [side, side], num_prefix_tokens=int(class_token))[0]
    ours = resample(table, side, class_token)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert not class_token or torch.equal(ours[0], table[0])


@pytest.mark.parametrize("side", [7, 24])
def test_open_clips(side: int) -> None:
    table = torch.randn(14 * 14 + 1, 32)
    weights = {"visual.positional_embedding": table}
    resize_pos_embed(weights, SimpleNamespace(visual=SimpleNamespace(grid_size=(side, side))))
    assert torch.equal(resample(table, side, class_token=True), weights["visual.positional_embedding"])


@pytest.mark.parametrize(
    ("rows", "class_token", "side"),
    [(197, True, 14), (196, False, 14), (577, True, 24), (196, True, None), (1, True, None), (0, False, None)],
)
def test_grid_side(rows: int, class_token: bool, side: int | None) -> None:
    assert grid_side(rows, class_token) == side
