"""Layer scales: the factor of each channel that a block multiplies the result of its last layer by."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.attention import AttentionBlock
from mobileclip_deploy.model.architecture.repmixer import RepMixerBlock

__all__ = ["absorb_layer_scales", "scaled_layers"]


def scaled_layers(module: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear, Tensor]]:
    """Every layer of a folded tower that a layer scale follows: its name, the layer, and the scale [C, 1, 1]."""
    for name, block in module.named_modules():
        if isinstance(block, RepMixerBlock):
            yield f"{name}.ffn.fc2", block.ffn.fc2, block.layer_scale
        elif isinstance(block, AttentionBlock):
            yield f"{name}.token_mixer.proj", block.token_mixer.proj, block.layer_scale_1
            yield f"{name}.ffn.fc2", block.ffn.fc2, block.layer_scale_2


@torch.no_grad()
def absorb_layer_scales(tower: nn.Module) -> None:
    """Leave ones in the place of every layer scale of a folded tower; what it computes stays the same.

    Core ML's converter multiplies a scale into the weight before it, and then quantizes: a weight that was trained on
    a grid would leave it.
    """
    for _, layer, scale in scaled_layers(tower):
        factors = scale.flatten()  # [C, 1, 1] -> [C]
        layer.weight.mul_(factors.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.mul_(factors)
        scale.fill_(1)
