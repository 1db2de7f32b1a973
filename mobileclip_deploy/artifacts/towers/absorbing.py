"""Factors next to a layer that its weight may absorb: layer scales after it, norms before it. Converters do so."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.model.architecture.attention import AttentionBlock, TransformerBlock
from mobileclip_deploy.network.model.architecture.repmixer import RepMixerBlock
from mobileclip_deploy.network.model.architecture.text import TextTransformer
from mobileclip_deploy.network.model.architecture.vit import ViT


def scaled_layers(module: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear, Tensor]]:
    """Yields every layer of a folded tower that a layer scale follows: its name, the layer, and the scale [C, 1, 1]."""
    for name, block in module.named_modules():
        if isinstance(block, RepMixerBlock):
            yield f"{name}.ffn.fc2", block.ffn.fc2, block.layer_scale
        elif isinstance(block, AttentionBlock):
            yield f"{name}.token_mixer.proj", block.token_mixer.proj, block.layer_scale_1
            yield f"{name}.ffn.fc2", block.ffn.fc2, block.layer_scale_2


@torch.no_grad()
def absorb_layer_scales(tower: nn.Module) -> None:
    """Replaces every layer scale of a folded tower by ones, without changing its outputs.

    Core ML's converter multiplies a scale into the weight before it, and then quantizes: a weight that was trained on a
    grid would leave it.
    """
    for _, layer, scale in scaled_layers(tower):
        factors = scale.flatten()  # [C, 1, 1] -> [C]
        layer.weight.mul_(factors.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.mul_(factors)
        scale.fill_(1)


def normed_layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear, nn.LayerNorm]]:
    """Yields every linear layer of a folded tower that takes a LayerNorm's result: its name, the layer, and the norm.

    `layer(norm(x))` is `layer'(x')` for x' normalised without weight and bias, `layer'.weight = layer.weight *
    norm.weight`, `layer'.bias = layer.bias + layer.weight @ norm.bias`: some converters write that.
    """
    for name, block in module.named_modules():
        if isinstance(block, TransformerBlock):
            yield f"{name}.attention.qkv", block.attention.qkv, block.norm1
            yield f"{name}.fc1", block.fc1, block.norm2
        elif isinstance(block, AttentionBlock) and isinstance(block.norm, nn.LayerNorm):
            yield f"{name}.token_mixer.qkv", block.token_mixer.qkv, block.norm
        elif isinstance(block, ViT) and block.pool is not None:
            yield f"{name}.pool.key_value", block.pool.key_value, block.final_norm
            yield f"{name}.pool.fc1", block.pool.fc1, block.pool.norm
        elif isinstance(block, TextTransformer | ViT) and isinstance(block.projection, nn.Linear):
            yield f"{name}.projection", block.projection, block.final_norm


@torch.no_grad()
def absorb_norms(tower: nn.Module) -> None:
    """Replaces by ones the weight of every norm of a folded tower that only one linear layer reads.

    The tower's outputs stay the same to rounding. LiteRT's converter multiplies a norm's weight into the product after
    it, and then stores its weight: one that was trained on a grid would leave it. If the layer has no bias, the norm
    keeps its own, divided by its weight; a channel whose weight is 0 then stays unchanged.
    """
    for _, layer, norm in normed_layers(tower):
        bias: Tensor | None = layer.bias
        if bias is not None:
            bias.add_(layer.weight @ norm.bias)
            layer.weight.mul_(norm.weight)
            norm.weight.fill_(1)
            norm.bias.fill_(0)
            continue
        factors = torch.where(norm.weight == 0, 1.0, norm.weight)
        layer.weight.mul_(factors)
        norm.bias.div_(factors)
        norm.weight.div_(factors)
