"""The BatchNorm before attention folds into the query-key-value projection; a LayerNorm stays."""

from __future__ import annotations

import torch
from folding_support import deviation, trained
from torch import nn

from mobileclip_deploy.folding.batch_norms import FoldAttentionNorm
from mobileclip_deploy.model.architecture.attention import AttentionBlock, ChannelLayerNorm


def test_batch_norm_goes_into_qkv() -> None:
    block = trained(AttentionBlock(16, 2.0, "batch_norm", head_dim=8))
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    before = block(x)
    assert FoldAttentionNorm().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert isinstance(block.norm, nn.Identity)
    assert block.token_mixer.qkv.bias is not None


def test_layer_norm_is_left_alone() -> None:
    block = trained(AttentionBlock(16, 2.0, "layer_norm", head_dim=8))
    assert FoldAttentionNorm().apply(block) == 0
    assert isinstance(block.norm, ChannelLayerNorm)
