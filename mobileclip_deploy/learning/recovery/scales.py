"""Layer scales multiplied into the weights before them, as Core ML's converter does before it quantizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.attention import AttentionBlock
from mobileclip_deploy.model.architecture.repmixer import RepMixerBlock

__all__ = ["absorb_layer_scales"]


@torch.no_grad()
def absorb_layer_scales(tower: nn.Module) -> None:
    """Leave ones in the place of every layer scale of a folded tower; what it computes stays the same.

    A weight that was trained on a grid would otherwise leave it when a converter multiplies the two.
    """
    for block in tower.modules():
        if isinstance(block, RepMixerBlock):
            _absorb(block.ffn.fc2, block.layer_scale)
        elif isinstance(block, AttentionBlock):
            _absorb(block.token_mixer.proj, block.layer_scale_1)
            _absorb(block.ffn.fc2, block.layer_scale_2)


def _absorb(layer: nn.Conv2d | nn.Linear, scale: Tensor) -> None:
    factors = scale.flatten()
    layer.weight.mul_(factors.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.mul_(factors)
    scale.fill_(1)
