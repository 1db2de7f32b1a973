"""Rewriting of a tower so that XNNPACK takes all of its expensive parts: attention, pooling and reshapes.

`F.scaled_dot_product_attention` decomposes into guards against fully masked rows, expands and scalar products. These
stay outside of the delegate and cut it into pieces, as do the towers' means and squeezes. The classes here replace a
module's own. They compute the same from slices, batched products of rank three, softmax and reshapes. Values change by
rounding only.

Layer scales are multiplied into the weights before them. executorch 1.5 computes a product with [C, 1, 1] channels
first, between two transposes of the whole map, in every block.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.artifacts.towers.absorbing import absorb_layer_scales
from mobileclip_deploy.artifacts.towers.tower import TextTower
from mobileclip_deploy.network.model.architecture.attention import (
    AttentionBlock,
    FeatureMapAttention,
    SelfAttention,
    turned,
)
from mobileclip_deploy.network.model.architecture.fastvit import MCi
from mobileclip_deploy.network.model.architecture.repmixer import RepMixerBlock
from mobileclip_deploy.network.model.architecture.text import SequenceRepMixerBlock
from mobileclip_deploy.targets.depthwise import BANDS, KERNEL

SLOPE = 2 * math.sqrt(2 / math.pi)
CUBIC = SLOPE * 0.044715


def authored(tower: nn.Module) -> nn.Module:
    """Returns a copy of a tower in eval mode, with every module replaced that XNNPACK would split."""
    copied = copy.deepcopy(tower)
    absorb_layer_scales(copied)
    for part in copied.modules():
        if isinstance(part, TextTower) and part.short:
            _lengthen_tables(part)
    for part in copied.modules():
        if type(part) is SequenceRepMixerBlock:
            part.ffn.fc1, part.ffn.fc2 = _linear(part.ffn.fc1), _linear(part.ffn.fc2)  # type: ignore[assignment]
        if type(part) in PLAIN and not (type(part) is nn.GELU and part.approximate == "none"):
            part.__class__ = PLAIN[type(part)]  # same weights, different `forward`
    return copied.eval()


@torch.no_grad()
def _lengthen_tables(tower: TextTower) -> None:
    """Adds a row that no length reaches. torch.export tests whether a slice takes everything, and refuses a free length
    if the longest one does."""
    encoder = tower.encoder
    tower.earlier = F.pad(tower.earlier, (0, 1, 0, 1))
    encoder.positional_embedding = nn.Parameter(F.pad(encoder.positional_embedding, (0, 0, 0, 1)))
    if encoder.causal_mask is not None:
        encoder.causal_mask = F.pad(encoder.causal_mask, (0, 1, 0, 1))


def attend(qkv: Tensor, heads: int, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Returns multi-head attention from stacked queries, keys and values: [N, L, 3C] to [N, L, C]. `turns` are the
    network's rotary factors."""
    n, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    parts = (qkv[:, :, i * width : (i + 1) * width] for i in range(3))
    shape = n, length, heads, width // heads
    q, k, v = (part.reshape(shape).transpose(1, 2).reshape(n * heads, length, -1) for part in parts)
    if turns is not None:
        q, k = turned(q, *turns), turned(k, *turns)
    logits = torch.bmm(q * (width // heads) ** -0.5, k.transpose(1, 2))
    if mask is not None:
        logits = logits + mask
    out = torch.bmm(torch.softmax(logits, dim=-1), v)
    return out.reshape(n, heads, length, width // heads).transpose(1, 2).reshape(n, length, width)


class PlainFeatureMapAttention(FeatureMapAttention):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.reshape(n, c, h * w).transpose(1, 2)
        return self.proj(attend(self.qkv(tokens), self.heads)).transpose(1, 2).reshape(n, c, h, w)


class PlainSelfAttention(SelfAttention):
    def forward(self, x: Tensor, mask: Tensor | None = None, turns: tuple[Tensor, Tensor] | None = None) -> Tensor:
        return self.proj(attend(self.qkv(x), self.heads, mask, turns))


class PlainRepMixerBlock(RepMixerBlock):
    """A RepMixer block without its layer scale."""

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.token_mixer(x)
        return mixed + self.ffn(mixed)


class PlainAttentionBlock(AttentionBlock):
    """An attention block without its layer scales."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mixer(self.norm(x))
        return x + self.ffn(x)


class PlainSequenceBlock(SequenceRepMixerBlock):
    """A sequence block without its layer scale, with linear layers instead of the equivalent 1 x 1 convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        mixed = self.token_mixer(x.transpose(1, 2).reshape(n, width, 1, length))
        tokens = self.ffn.conv(mixed).reshape(n, width, length).transpose(1, 2)
        residual = mixed.reshape(n, width, length).transpose(1, 2)
        return residual + self.ffn.fc2(self.ffn.act(self.ffn.fc1(tokens)))


def _linear(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1))
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach())
    return linear


class PlainMCi(MCi):
    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.stages(self.stem(x)))
        x = x.mean((2, 3), keepdim=True)
        return self.projection(x.reshape(x.shape[0], x.shape[1]))


class PlainTanhGELU(nn.GELU):
    """GELU by tanh, of any shape. XNNPACK has the exact form only, and executorch 1.5 silently lowers both to that one.

    (1 + tanh(z)) / 2 is sigmoid(2 z), and no power of x overflows float16 before the sigmoid is 0 or 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x * (x * x * CUBIC + SLOPE))


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    FeatureMapAttention: PlainFeatureMapAttention,
    SelfAttention: PlainSelfAttention,
    RepMixerBlock: PlainRepMixerBlock,
    AttentionBlock: PlainAttentionBlock,
    SequenceRepMixerBlock: PlainSequenceBlock,
    MCi: PlainMCi,
    nn.GELU: PlainTanhGELU,
}


# Convolutions without a kernel in XNNPACK are written as several with one; the results are the same. Depthwise ones of
# 7 x 7 are divided into three bands of rows (`targets.depthwise`). MobileCLIP's image towers double their channels by
# depthwise convolutions with several outputs per channel: three windows of 7 x 7 with stride 2, and one of 3 x 3 at the
# end. XNNPACK has kernels only for one output per channel, and runs those with two as a product for each channel. After
# the split, the convolutions of 7 x 7 can be divided into bands like all others.


class RowBands(nn.Module):
    """Sum of three depthwise convolutions that equals one of 7 x 7: [N, C, H, W] to [N, C, H', W']."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bands = nn.ModuleList(_band(conv, *band) for band in BANDS)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.bands
        return first(x) + second(x) + third(x)


class Apart(nn.Module):
    """Convolutions [N, C, H, W] to [N, C, H', W'] that together equal one to [N, count * C, H', W'].

    The first computes the channels 0, count, 2 * count and so on, the second the channels after those.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_part(conv, index) for index in range(conv.out_channels // conv.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([part(x) for part in self.parts], 2).flatten(1, 2)  # through [N, C, count, H', W']


def split_large_depthwise(module: nn.Module) -> int:
    """Replaces every 7 x 7 depthwise convolution inside `module`, in place. Returns their number."""
    return _replaced(module, _is_large, RowBands)


def split_doubling(module: nn.Module) -> int:
    """Replaces every convolution with several outputs per channel, in place. Returns their number."""
    return _replaced(module, lambda conv: 1 < conv.groups == conv.in_channels < conv.out_channels, Apart)


def _replaced(module: nn.Module, wanted: Callable[[nn.Conv2d], bool], kind: Callable[[nn.Conv2d], nn.Module]) -> int:
    replacements = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and wanted(child)
    ]
    for parent, name, child in replacements:
        setattr(parent, name, kind(child))
    return len(replacements)


def _is_large(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (KERNEL, KERNEL)
        and conv.padding == (KERNEL // 2, KERNEL // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == conv.in_channels == conv.out_channels
    )


def _band(conv: nn.Conv2d, first: int, step: int, rows: int) -> nn.Conv2d:
    weight = conv.weight[:, :, first : first + step * (rows - 1) + 1 : step]
    bias = conv.bias if first == 0 else None
    return _like(conv, weight, bias, (KERNEL // 2 - first, KERNEL // 2), (step, 1))


def _part(conv: nn.Conv2d, number: int) -> nn.Conv2d:
    count = conv.out_channels // conv.in_channels
    bias = None if conv.bias is None else conv.bias[number::count]
    return _like(conv, conv.weight[number::count], bias, conv.padding, conv.dilation)  # [C, 1, KH, KW]


def _like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, padding: Any, dilation: tuple[int, ...]) -> nn.Conv2d:
    """Returns a depthwise convolution with one output per channel, for a part of another one's weight [C, 1, KH,
    KW]."""
    part = nn.Conv2d(
        conv.in_channels,
        conv.in_channels,
        weight.shape[2:],  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        padding,
        dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=bias is not None,
        padding_mode=conv.padding_mode,
    )
    part.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        part.bias = nn.Parameter(bias.detach().clone())
    return part.to(conv.weight.device)
