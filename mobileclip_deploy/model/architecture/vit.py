"""ViT image towers: MobileCLIP-B's with a convolutional stem, and plain patch embeddings (ViT-L/14, OpenAI's B/16)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.attention import TransformerBlock
from mobileclip_deploy.model.architecture.mobileone import ConvBN
from mobileclip_deploy.model.variants import ViTTower

__all__ = ["ViT"]


def convolutional_stem(width: int, padding: int) -> nn.Sequential:
    """Patches of 16 x 16 by strides 4, 2, 2 (arXiv 2106.14881). Apple pads the first convolution by 1, timm by 0."""
    inner = width // 4
    return nn.Sequential(
        ConvBN(3, inner, (4, 4), 4, groups=1, padding=padding),
        nn.GELU(),
        ConvBN(inner, inner, (2, 2), 2, groups=1, padding=0),
        nn.GELU(),
        nn.Conv2d(inner, width, 2, 2),  # the last one keeps its bias: no BatchNorm follows
    )


class ViT(nn.Module):
    """Normalised image [N, 3, S, S] -> embedding [N, D] of the class token, not normalised."""

    def __init__(self, spec: ViTTower, embed_dim: int, image_size: int) -> None:
        super().__init__()
        width = spec.width
        if spec.stem == "convolutional":
            self.stem: nn.Module = convolutional_stem(width, spec.stem_padding)
        else:
            self.stem = nn.Conv2d(3, width, spec.patch, spec.patch, bias=False)
        patches = (image_size // spec.patch) ** 2
        self.class_token_position = spec.class_token_position
        self.class_token = nn.Parameter(torch.zeros(width))  # [C]
        self.positional_embedding = nn.Parameter(torch.zeros(patches + spec.class_token_position, width))
        self.pre_norm = nn.LayerNorm(width, eps=spec.norm_eps) if spec.pre_norm else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(width, spec.heads, spec.mlp_ratio, spec.norm_eps, spec.activation)
                for _ in range(spec.depth)
            )
        )
        self.final_norm = nn.LayerNorm(width, eps=spec.norm_eps)
        self.projection = nn.Linear(width, embed_dim, bias=spec.projection_bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # [N, patches, C]
        class_token = self.class_token.expand(tokens.shape[0], 1, -1)
        if self.class_token_position:
            tokens = torch.cat((class_token, tokens), dim=1) + self.positional_embedding
        else:
            tokens = torch.cat((class_token, tokens + self.positional_embedding), dim=1)
        tokens = self.blocks(self.pre_norm(tokens))
        return self.projection(self.final_norm(tokens[:, 0]))  # the class token alone carries the embedding
