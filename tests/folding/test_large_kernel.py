"""The small kernel of a large-kernel convolution folds into the large one."""

from __future__ import annotations

import pytest
import torch
from folding_support import deviation, trained

from mobileclip_deploy.folding.branches import FoldLargeKernel
from mobileclip_deploy.model.architecture.mobileone import LargeKernelConv


@pytest.mark.parametrize("squeeze", [None, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_is_kept(stride: int, squeeze: int | None) -> None:
    block = trained(LargeKernelConv(8, 16, stride=stride, squeeze=squeeze))
    x = torch.randn(2, 8, 12, 12, dtype=torch.float64)
    before = block(x)
    assert FoldLargeKernel().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert block.conv.weight.shape == (16, 1, 7, 7)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in block.modules())
