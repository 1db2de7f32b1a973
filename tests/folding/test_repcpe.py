"""A conditional positional encoding's skip connection folds into its convolution."""

from __future__ import annotations

import torch
from folding_support import deviation, trained

from mobileclip_deploy.folding.branches import FoldRepCPE
from mobileclip_deploy.model.architecture.repmixer import RepCPE


def test_output_is_kept() -> None:
    block = trained(RepCPE(8))
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    before = block(x)
    assert FoldRepCPE().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert [name for name, _ in block.named_parameters()] == ["conv.weight", "conv.bias"]
