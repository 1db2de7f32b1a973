"""Self-attention: over feature maps in the MCi towers, over token sequences in the transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.model.architecture.repmixer import LAYER_SCALE_INIT, ConvFFN

__all__ = [
    "AttentionBlock",
    "ChannelLayerNorm",
    "FeatureMapAttention",
    "QuickGELU",
    "SelfAttention",
    "TransformerBlock",
]


def attend(qkv: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention from stacked queries, keys and values: [N, L, 3C] -> [N, L, C].

    No tensor has more than four dimensions and the three parts are one split, which Core ML's Neural Engine and ONNX
    Runtime's float16 graphs both need.
    """
    n, length, _ = qkv.shape
    # [N, L, 3C] -> three of [N, heads, L, C / heads]
    q, k, v = (part.reshape(n, length, heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [N, heads, L, C / heads]
    return out.transpose(1, 2).reshape(n, length, -1)


class FeatureMapAttention(nn.Module):
    """Self-attention over the positions of a feature map: [N, C, H, W] -> [N, C, H, W].

    `qkv` has no bias in training form; folding the BatchNorm before it gives it one.
    """

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads = width // head_dim
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # [N, C, H, W] -> [N, H * W, C]
        out = self.proj(attend(self.qkv(tokens), self.heads))
        return out.transpose(1, 2).reshape(x.shape)  # [N, H * W, C] -> [N, C, H, W]


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of a feature map: [N, C, H, W] -> [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # [N, H, W, C]: layer_norm normalises the last axes only
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class AttentionBlock(nn.Module):
    """Normalised self-attention, then convolutional feed-forward, both scaled residuals, on feature maps."""

    def __init__(self, width: int, mlp_ratio: float, norm: str, head_dim: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(width) if norm == "batch_norm" else ChannelLayerNorm(width, eps=1e-5)
        self.token_mixer = FeatureMapAttention(width, head_dim)
        self.ffn = ConvFFN(width, int(width * mlp_ratio), (7, 7))
        self.layer_scale_1 = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE_INIT))  # [C, 1, 1] scales [N, C, H, W]
        self.layer_scale_2 = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE_INIT))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale_1 * self.token_mixer(self.norm(x))
        return x + self.layer_scale_2 * self.ffn(x)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the activation OpenAI's CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Self-attention over a token sequence: [N, L, C] -> [N, L, C]; `mask` [L, L] is added to the logits."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.proj(attend(self.qkv(x), self.heads, mask))


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer: [N, L, C] -> [N, L, C]."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float, activation: str) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, hidden)
        self.act = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), mask)
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))
