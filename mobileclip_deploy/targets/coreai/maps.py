"""A tower as Apple's rules for the Neural Engine prefer it: 1 x 1 convolutions for linear layers, sequences as maps of
height 1, attention head by head with its softmax over axis 1. The same numbers, and the same answers.

Source of the rules: apple/coreai-models, skills/model-authoring/references/neural_engine_rules.md.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.attention import ChannelLayerNorm, FeatureMapAttention, TransformerBlock
from mobileclip_deploy.model.architecture.text import TextTransformer

__all__ = ["as_maps"]


def as_maps(tower: nn.Module) -> nn.Module:
    """A copy of a folded tower with its attention, its sequences and its projection as maps; what has none of these
    stays as it is."""
    tower = copy.deepcopy(tower)
    for module in list(tower.modules()):
        if isinstance(module, TextTransformer):
            module.blocks = nn.ModuleList(_joined(list(module.blocks), module.causal_mask))
        for name, child in list(module.named_children()):
            if isinstance(child, FeatureMapAttention):
                setattr(module, name, _MapAttention(child))
            elif name == "projection" and isinstance(child, nn.Linear):
                setattr(module, name, _MapProjection(child))
    return tower.eval()


def _joined(blocks: list[nn.Module], mask: Tensor | None) -> list[nn.Module]:
    """Layers of a transformer that follow each other, as one module: it changes the layout once."""
    found: list[nn.Module] = []
    for block in blocks:
        if not isinstance(block, TransformerBlock):
            found.append(block)
        elif found and isinstance(found[-1], _MapBlocks):
            found[-1].blocks.append(_MapBlock(block, mask))
        else:
            found.append(_MapBlocks(_MapBlock(block, mask)))
    return found


def _convolution(linear: nn.Linear) -> nn.Conv2d:
    made = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    made.weight = nn.Parameter(linear.weight.detach()[:, :, None, None], requires_grad=False)
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return made


def _attend(qkv: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Queries, keys and values [N, 3C, 1, L] -> [N, C, 1, L]; `mask` [queries, keys] is added."""
    answers = []
    parts = [part.squeeze(2).chunk(heads, 1) for part in qkv.chunk(3, 1)]
    for query, key, value in zip(*parts, strict=True):  # [N, C / heads, L] each
        logits = (key.transpose(1, 2) @ query) * query.shape[1] ** -0.5  # [N, keys, queries]
        answers.append(value @ (logits if mask is None else logits + mask.T).softmax(1))
    return torch.cat(answers, 1).unsqueeze(2)


class _MapProjection(nn.Module):
    """[N, C] -> [N, D]"""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = _convolution(linear)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.linear(x[:, :, None, None]), 1)


class _MapAttention(nn.Module):
    """[N, C, H, W] -> [N, C, H, W]"""

    def __init__(self, own: FeatureMapAttention) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = own.heads, _convolution(own.qkv), _convolution(own.proj)

    def forward(self, x: Tensor) -> Tensor:
        answers = _attend(self.qkv(x).flatten(2).unsqueeze(2), self.heads)
        out: Tensor = self.proj(answers.reshape(x.shape))
        return out


class _MapBlock(nn.Module):
    """[N, C, 1, L] -> [N, C, 1, L]"""

    mask: Tensor | None

    def __init__(self, own: TransformerBlock, mask: Tensor | None) -> None:
        super().__init__()
        self.heads, self.act = own.attention.heads, own.act
        self.norm1, self.norm2 = _map_norm(own.norm1), _map_norm(own.norm2)
        self.qkv, self.proj = _convolution(own.attention.qkv), _convolution(own.attention.proj)
        self.fc1, self.fc2 = _convolution(own.fc1), _convolution(own.fc2)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.proj(_attend(self.qkv(self.norm1(x)), self.heads, self.mask))
        out: Tensor = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return out


def _map_norm(own: nn.LayerNorm) -> ChannelLayerNorm:
    made = ChannelLayerNorm(list(own.normalized_shape), eps=own.eps)
    made.weight, made.bias = own.weight, own.bias
    return made


class _MapBlocks(nn.Module):
    """[N, L, C] -> [N, L, C]"""

    def __init__(self, first: _MapBlock) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([first])

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2).unsqueeze(2)
        for block in self.blocks:
            x = block(x)
        return x.squeeze(2).transpose(1, 2)
