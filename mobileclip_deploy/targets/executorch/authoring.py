"""A tower written so that XNNPACK takes all of it that is expensive: attention, pooling and reshapes in its own terms.

`F.scaled_dot_product_attention` decomposes into guards against fully masked rows, expands and scalar products that stay
outside of the delegate and cut it into pieces; the means and squeezes of the towers do the same. The modules here
compute the same from slices, batched products of rank three, softmax and reshapes. Values change by rounding alone.

Layer scales are multiplied into the weights before them. A product with [C, 1, 1] is one that executorch 1.5 lays out
channels first, between two transposes of the whole map, in every block.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.model.architecture.attention import (
    AttentionBlock,
    FeatureMapAttention,
    SelfAttention,
    turned,
)
from mobileclip_deploy.model.architecture.fastvit import MCi
from mobileclip_deploy.model.architecture.repmixer import RepMixerBlock
from mobileclip_deploy.model.architecture.text import SequenceRepMixerBlock
from mobileclip_deploy.towers.absorbing import absorb_layer_scales
from mobileclip_deploy.towers.tower import TextTower

SLOPE = 2 * math.sqrt(2 / math.pi)
CUBIC = SLOPE * 0.044715


def authored(tower: nn.Module) -> nn.Module:
    """A copy of a tower in eval mode, with every module replaced that XNNPACK would leave in pieces."""
    copied = copy.deepcopy(tower)
    absorb_layer_scales(copied)
    for part in copied.modules():
        if isinstance(part, TextTower) and part.short:
            _lengthen_tables(part)
    # `modules` goes from the outside in and sees a replacement's children as it comes to them.
    for parent in copied.modules():
        for name, child in list(parent.named_children()):
            replacement = REPLACEMENTS.get(type(child))
            if replacement is not None:
                setattr(parent, name, replacement(child))
    return copied.eval()


@torch.no_grad()
def _lengthen_tables(tower: TextTower) -> None:
    """A row more, which no length reaches: torch.export asks of a slice whether it takes everything, and where the
    longest does, it refuses a length that is free."""
    encoder = tower.encoder
    tower.earlier = F.pad(tower.earlier, (0, 1, 0, 1))
    encoder.positional_embedding = nn.Parameter(F.pad(encoder.positional_embedding, (0, 0, 0, 1)))
    if encoder.causal_mask is not None:
        encoder.causal_mask = F.pad(encoder.causal_mask, (0, 1, 0, 1))


def attend(qkv: Tensor, heads: int, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Multi-head attention from stacked queries, keys and values: [N, L, 3C] -> [N, L, C]; `turns` as the network's."""
    n, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    parts = (qkv[:, :, i * width : (i + 1) * width] for i in range(3))
    q, k, v = (_by_head(part, n, length, heads, width // heads) for part in parts)
    if turns is not None:
        q, k = turned(q, *turns), turned(k, *turns)
    logits = torch.bmm(q * (width // heads) ** -0.5, k.transpose(1, 2))
    if mask is not None:
        logits = logits + mask
    out = torch.bmm(torch.softmax(logits, dim=-1), v)
    return out.reshape(n, heads, length, width // heads).transpose(1, 2).reshape(n, length, width)


def _by_head(x: Tensor, n: int, length: int, heads: int, size: int) -> Tensor:
    return x.reshape(n, length, heads, size).transpose(1, 2).reshape(n * heads, length, size)


class PlainFeatureMapAttention(nn.Module):
    """`FeatureMapAttention`: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, original: FeatureMapAttention) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = original.heads, original.qkv, original.proj

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.reshape(n, c, h * w).transpose(1, 2)
        return self.proj(attend(self.qkv(tokens), self.heads)).transpose(1, 2).reshape(n, c, h, w)


class PlainSelfAttention(nn.Module):
    """`SelfAttention`: [N, L, C] -> [N, L, C]."""

    def __init__(self, original: SelfAttention) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = original.heads, original.qkv, original.proj

    def forward(self, x: Tensor, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        return self.proj(attend(self.qkv(x), self.heads, mask, turns))


class PlainRepMixerBlock(nn.Module):
    """`RepMixerBlock` without its layer scale: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, original: RepMixerBlock) -> None:
        super().__init__()
        self.token_mixer, self.ffn = original.token_mixer, original.ffn

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.token_mixer(x)
        return mixed + self.ffn(mixed)


class PlainAttentionBlock(nn.Module):
    """`AttentionBlock` without its layer scales: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, original: AttentionBlock) -> None:
        super().__init__()
        self.norm, self.token_mixer, self.ffn = original.norm, original.token_mixer, original.ffn

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mixer(self.norm(x))
        return x + self.ffn(x)


class PlainSequenceBlock(nn.Module):
    """`SequenceRepMixerBlock` without its layer scale: [N, L, C] -> [N, L, C]; its 1 x 1 convolutions are the linear
    layers they equal."""

    def __init__(self, original: SequenceRepMixerBlock) -> None:
        super().__init__()
        ffn = original.ffn
        self.token_mixer, self.conv, self.act = original.token_mixer, ffn.conv, ffn.act
        self.fc1, self.fc2 = _linear(ffn.fc1), _linear(ffn.fc2)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        mixed = self.token_mixer(x.transpose(1, 2).reshape(n, width, 1, length))
        tokens = self.conv(mixed).reshape(n, width, length).transpose(1, 2)
        residual = mixed.reshape(n, width, length).transpose(1, 2)
        return residual + self.fc2(self.act(self.fc1(tokens)))


def _linear(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1))
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach())
    return linear


class PlainMCi(nn.Module):
    """`MCi`: [N, 3, S, S] -> [N, D], or tokens [N, T, D]."""

    def __init__(self, original: MCi) -> None:
        super().__init__()
        self.stem, self.stages = original.stem, original.stages
        self.expand, self.projection = original.expand, original.projection

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.stages(self.stem(x)))
        if self.projection is None:
            return x.flatten(2).transpose(1, 2)
        x = x.mean((2, 3), keepdim=True)
        return self.projection(x.reshape(x.shape[0], x.shape[1]))


class PlainTanhGELU(nn.Module):
    """GELU by tanh, of any shape. XNNPACK has the exact form alone, and executorch 1.5 lowers both to that without a
    word. (1 + tanh(z)) / 2 is sigmoid(2 z), and no power of x leaves float16 before the sigmoid is 0 or 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x * (x * x * CUBIC + SLOPE))


def _activation(original: nn.GELU) -> nn.Module:
    return PlainTanhGELU() if original.approximate == "tanh" else original


REPLACEMENTS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    FeatureMapAttention: PlainFeatureMapAttention,
    SelfAttention: PlainSelfAttention,
    RepMixerBlock: PlainRepMixerBlock,
    AttentionBlock: PlainAttentionBlock,
    SequenceRepMixerBlock: PlainSequenceBlock,
    MCi: PlainMCi,
    nn.GELU: _activation,
}
