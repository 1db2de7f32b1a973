"""Towers written for XNNPACK: the fast path and the plain modules compute what the tower computes."""

import pytest
import torch
from tiny import TINY, network
from torch import nn

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.executorch.authoring import (
    Apart,
    RowBands,
    authored,
    split_doubling,
    split_large_depthwise,
)
from mobileclip_deploy.targets.executorch.embedding import Int8Embedding, PaletteEmbedding, unpacked

BOUND = 1e-5


def relative(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((ours - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 7), (8, 9), (16, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_row_bands_equal_the_convolution(stride: int, size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 7, stride, 3, groups=6, bias=bias).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    assert torch.allclose(RowBands(conv).double()(x), conv(x), atol=1e-12)


def test_every_tap_is_in_exactly_one_band() -> None:
    conv = nn.Conv2d(1, 1, 7, padding=3, bias=False)
    conv.weight.data = torch.arange(49.0).reshape(1, 1, 7, 7)
    taps = torch.cat([band.weight.flatten() for band in RowBands(conv).bands])
    assert sorted(taps.tolist()) == list(range(49))
    assert all(band.weight[0, 0].numel() <= 25 for band in RowBands(conv).bands)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 7, padding=3),
        nn.Conv2d(4, 4, 7, padding=0, groups=4),
        nn.Conv2d(4, 4, 7, padding=6, dilation=2, groups=4),
        nn.Conv2d(4, 8, 7, padding=3, groups=4),
        nn.Conv2d(4, 4, (1, 11), padding=(0, 5), groups=4),
        nn.Conv2d(4, 4, 7, padding=3, groups=4, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    holder = nn.Sequential(conv)
    assert split_large_depthwise(holder) == 0
    assert holder[0] is conv


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_taken_apart_by_channels_equal_the_one(kernel: int, count: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, count * 6, kernel, 2, kernel // 2, groups=6, bias=bias).double()
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    holder = nn.Sequential(conv)
    assert split_doubling(holder) == 1
    assert split_large_depthwise(holder) == (count if kernel == 7 else 0)
    assert torch.allclose(holder.double()(x), conv(x), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_only_what_makes_several_channels_of_each_one_is_taken_apart(groups: int) -> None:
    holder = nn.Sequential(nn.Conv2d(4, 4 if groups == 4 else 8, 3, groups=groups), nn.Conv2d(1, 8, 3))
    assert split_doubling(holder) == 0
    assert not any(isinstance(module, Apart) for module in holder)


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_an_authored_tower_computes_the_same_and_leaves_the_original_alone(name: str, tower: TowerName) -> None:
    original = make_tower(network(0, name), tower)
    before = {key: value.clone() for key, value in original.state_dict().items()}
    written = authored(original)
    split_doubling(written)
    split_large_depthwise(written)
    ids = torch.randint(0, 90, (2, 8))
    ids[:, 5] = 91
    x = torch.rand(2, 3, 64, 64) if tower == "image" else ids
    with torch.no_grad():
        assert relative(written(x), original(x)) <= BOUND
    assert not any(isinstance(module, RowBands | Apart) for module in original.modules())
    assert all(torch.equal(value, before[key]) for key, value in original.state_dict().items())


def test_int8_rows_are_within_half_a_step_of_the_table() -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(50, 16)
    embedding.weight.data *= torch.logspace(-3, 2, 50).unsqueeze(1)
    embedding.weight.data[7] = 0
    ids = torch.arange(50).unsqueeze(0)
    step = embedding.weight.abs().amax(1, keepdim=True) / 127
    error = (Int8Embedding(embedding)(ids)[0] - embedding.weight).abs()
    assert (error <= 0.5001 * step).all()
    assert Int8Embedding(embedding).table.dtype == torch.int8


def test_four_indices_in_three_bytes_are_found_again() -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(50, 16)
    written = PaletteEmbedding(embedding)
    assert (written.packed.dtype, written.packed.shape) == (torch.uint8, (50, 12))
    assert len(unpacked(written.packed).unique()) == len(written.entries.unique()) == 64
    nearest = (embedding.weight[..., None] - written.entries[:, 0]).abs().amin(dim=2)
    assert torch.equal((written(torch.arange(50)[None])[0] - embedding.weight).abs(), nearest)
