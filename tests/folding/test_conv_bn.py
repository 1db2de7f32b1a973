"""Convolution and BatchNorm pairs fold into a convolution with bias, with stride, padding and groups kept."""

from __future__ import annotations

import pytest
import torch
from folding_support import deviation, trained
from torch import nn

from mobileclip_deploy.folding.batch_norms import FoldConvBN
from mobileclip_deploy.model.architecture.mobileone import ConvBN
from mobileclip_deploy.model.architecture.repmixer import ConvFFN
from mobileclip_deploy.model.architecture.vit import convolutional_stem


def test_feed_forward() -> None:
    block = trained(ConvFFN(8, 16, (7, 7)))
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    before = block(x)
    assert FoldConvBN().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert isinstance(block.conv, nn.Conv2d)


@pytest.mark.parametrize("padding", [0, 1], ids=["timm", "apple"])
def test_vit_stem(padding: int) -> None:
    stem = trained(convolutional_stem(32, padding))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = stem(x)
    assert FoldConvBN().apply(stem) == 2
    assert deviation(stem, before, x) < 1e-12
    assert stem[0].padding == (padding, padding)


def test_a_pair_of_any_geometry() -> None:
    block = trained(nn.Sequential(ConvBN(8, 12, (3, 5), 2, groups=4)))
    x = torch.randn(2, 8, 11, 11, dtype=torch.float64)
    before = block(x)
    assert FoldConvBN().apply(block) == 1
    assert deviation(block, before, x) < 1e-12


def test_nothing_to_fold() -> None:
    assert FoldConvBN().apply(nn.Sequential(nn.Conv2d(3, 4, 3))) == 0
