"""Towers to convert: small open_clip transformers with well-filled norms."""

from typing import Any

import torch


def filled(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random affine parameters, so that no LayerNorm is close to an identity."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.copy_(uniform(module.weight, 0.8, 1.2))
                module.bias.copy_(uniform(module.bias, -0.2, 0.2))
        for name, parameter in model.named_parameters():
            if "layer_scale" in name:
                parameter.copy_(uniform(parameter, 0.5, 1.0))
    return model.eval()


def text(**options: Any) -> torch.nn.Module:
    """open_clip's text transformer, small: ids [1, 16] -> [1, 32]."""
    from open_clip.transformer import TextTransformer

    torch.manual_seed(1)
    tower = TextTransformer(context_length=16, vocab_size=100, width=48, heads=4, layers=2, output_dim=32, **options)
    return filled(tower)


def vision() -> torch.nn.Module:
    """open_clip's vision transformer, small, with quick GELU: [1, 3, 32, 32] -> [1, 24]."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    torch.manual_seed(2)
    tower = VisionTransformer(32, 8, 48, 2, 4, 2.0, output_dim=24, act_layer=QuickGELU)
    return filled(tower)
