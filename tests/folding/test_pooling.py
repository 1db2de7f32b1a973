"""The learned query of attention pooling folds into what it asks; self-attention is left alone."""

from __future__ import annotations

import torch
from folding_support import deviation, trained

from mobileclip_deploy.folding.pooling import FoldPooledQuery
from mobileclip_deploy.model.architecture.attention import AttentionPool, TransformerBlock


def test_the_query_goes_through_its_projection() -> None:
    block = trained(AttentionPool(16, 2, 2.0, 1e-5, "gelu"))
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    before = block(x)
    assert FoldPooledQuery().apply(block) == 1
    assert deviation(block, before, x) < 1e-12
    assert {name for name, _ in block.named_parameters()}.isdisjoint({"latent", "query.weight", "query.bias"})
    assert FoldPooledQuery().apply(block) == 0


def test_another_attention_is_left_alone() -> None:
    assert FoldPooledQuery().apply(trained(TransformerBlock(16, 2, 2.0, 1e-5, "gelu"))) == 0
