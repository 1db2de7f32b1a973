"""The token table as int8 rows: a quarter of its bytes, read row by row and scaled after the gather.

The table is 40 to 60% of a text tower, and no quantizer of linear layers touches it. One scale a row: frequent and
rare words have rows of different length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Int8Embedding", "quantize_embeddings"]


class Int8Embedding(nn.Module):
    """Token ids [N, L] -> rows [N, L, C], from an int8 table [V, C] and float32 scales [V, 1]."""

    table: Tensor
    scale: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        weight = embedding.weight.detach()
        scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.register_buffer("table", torch.round(weight / scale).to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table[ids].float() * self.scale[ids]


def quantize_embeddings(module: nn.Module) -> None:
    """Replace every embedding inside `module`, in place."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Embedding):
                setattr(parent, name, Int8Embedding(child))
