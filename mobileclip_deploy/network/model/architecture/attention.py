"""Self-attention: over feature maps in the MCi towers, over token sequences in the transformers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.network.model.architecture.repmixer import LAYER_SCALE_INIT, ConvFFN


def attend(qkv: Tensor, heads: int, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Computes multi-head attention from stacked queries, keys and values: [N, L, 3C] -> [N, L, C].

    `turns`: cosines and sines [L, C / heads] by which queries and keys turn (rotary positions, arXiv 2104.09864); the
    two channels of a pair are half a head apart.

    No tensor has more than four dimensions and the three parts are one split. Core ML's Neural Engine and ONNX
    Runtime's float16 graphs both need that.
    """
    n, length, _ = qkv.shape
    # [N, L, 3C] -> three of [N, heads, L, C / heads]
    q, k, v = (part.reshape(n, length, heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    if turns is not None:
        q, k = turned(q, *turns), turned(k, *turns)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [N, heads, L, C / heads]
    return out.transpose(1, 2).reshape(n, length, -1)


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turns every pair of channels by its angle: [N, heads, L, D] -> [N, heads, L, D]."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


def rotary_turns(side: int, reference: int, size: int, skipped: int) -> tuple[Tensor, Tensor]:
    """Returns cosines and sines [skipped + side * side, size] of a grid of patches, row by row; float32, as timm's.

    Columns turn the first half of the pairs and rows the second. Both are counted from 1 and scaled to a grid of
    `reference` patches a side. The first `skipped` tokens, such as a class token, are not turned.
    """
    bands = 1.0 / (10000.0 ** (torch.arange(0, size // 4, dtype=torch.int64).to(torch.float32) / (size // 4)))
    positions = (torch.arange(side, dtype=torch.int64).to(torch.float32) + 1.0) / side * reference
    columns = positions.repeat(side)[:, None] * bands  # [side * side, size / 4]
    rows = positions.repeat_interleave(side)[:, None] * bands
    angles = torch.cat((columns, rows), dim=-1).repeat(1, 2)  # [side * side, size]
    angles = torch.cat((torch.zeros(skipped, size), angles))
    return angles.cos(), angles.sin()


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
    """x * sigmoid(1.702 x): the activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def activation_of(name: str) -> nn.Module:
    """Returns the module of an activation that a card names."""
    if name == "quick_gelu":
        return QuickGELU()
    return nn.GELU(approximate="tanh" if name == "gelu_tanh" else "none")


class SelfAttention(nn.Module):
    """Self-attention over a token sequence: [N, L, C] -> [N, L, C]; `mask` [L, L] is added to the logits. `turns`: see
    `attend`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        return self.proj(attend(self.qkv(x), self.heads, mask, turns))


class AttentionPool(nn.Module):
    """One learned query over all tokens, then a feed-forward residual: [N, L, C] -> [N, C] (timm's
    AttentionPoolLatent). Training form: `latent` goes through `query`. Folded: the projected query is stored, and both
    are None."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float, activation: str) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.heads = heads
        self.latent: nn.Parameter | None = nn.Parameter(torch.zeros(width))  # [C]
        self.query: nn.Linear | None = nn.Linear(width, width)
        self.asked: nn.Parameter | None = None  # [C]
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, hidden)
        self.act = activation_of(activation)
        self.fc2 = nn.Linear(hidden, width)

    @staticmethod
    def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attends with one query: [N, heads, 1, D], [N, heads, L, D] twice -> [N, heads, 1, D]."""
        return F.scaled_dot_product_attention(q, k, v)

    def question(self) -> Tensor:
        """Returns the projected query, the same for every picture: [C]."""
        if self.query is None:
            assert self.asked is not None
            return self.asked
        projected: Tensor = self.query(self.latent)
        return projected

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q = self.question().expand(n, 1, -1).reshape(n, 1, self.heads, -1).transpose(1, 2)
        k, v = (part.reshape(n, length, self.heads, -1).transpose(1, 2) for part in self.key_value(x).chunk(2, dim=-1))
        out = self.attended(q, k, v)  # [N, heads, 1, C / heads]
        pooled = self.proj(out.transpose(1, 2).reshape(n, width))
        return pooled + self.fc2(self.act(self.fc1(self.norm(pooled))))


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer: [N, L, C] -> [N, L, C]."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float, activation: str) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.fc1 = nn.Linear(width, hidden)
        self.act = activation_of(activation)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), mask, turns)
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))
