"""A RepMixer folds, its skip connection and layer scale included, into one depthwise convolution."""

from __future__ import annotations

import pytest
import torch
from folding_support import deviation, trained

from mobileclip_deploy.folding.branches import FoldMobileOne, FoldRepMixer
from mobileclip_deploy.model.architecture.repmixer import RepMixer


@pytest.mark.parametrize("kernel", [(3, 3), (1, 11)], ids=["image", "text"])
def test_output_is_kept(kernel: tuple[int, int]) -> None:
    block = trained(RepMixer(8, kernel))
    x = torch.randn(2, 8, 7, 14, dtype=torch.float64)
    before = block(x)
    FoldMobileOne().apply(block)
    assert FoldRepMixer().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert [name for name, _ in block.named_parameters()] == ["conv.weight", "conv.bias"]
    assert block.conv.groups == 8
